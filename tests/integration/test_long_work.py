"""Work that takes long is visible while it goes on: in the terminal, in `status`, in the log and on the page."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.checkpoints import save_rosellm
from tests.support.daemon import ROOT, Site, wait_until
from tests.support.tiny import write_tiny

SLOW_FOLDERS = '''
"""A mount that answers slowly: 4 ms for each entry of a folder."""
import os, threading
real, pause = os.scandir, threading.Event()
class Slowly:
    def __init__(self, path): self.inner = real(path)
    def __iter__(self): return self
    def __next__(self): pause.wait(0.004); return next(self.inner)
    def __enter__(self): return self
    def __exit__(self, *error): self.inner.close()
    def close(self): self.inner.close()
os.scandir = lambda path=".": Slowly(path) if isinstance(path, int) else real(path)  # our scans go by descriptor
'''


@pytest.fixture
def site(tmp_path):
    one = Site(tmp_path)
    yield one
    one.end()


def at_work(site: Site, phase: str) -> dict | None:
    return next((work for work in site.health().get("work", ()) if work["phase"] == phase and work["done"]), None)


def on_a_terminal(*arguments: str, cwd: Path, wide: int = 100, **env: str) -> tuple[int, str, str]:
    """(status, stdout, what a terminal on stderr was sent) of a real process."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "watcher.cli", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=terminal, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(wide), **env},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while select.select([controller], [], [], 120)[0]:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
    assert process.stdout is not None
    out = process.stdout.read()
    os.close(controller)
    return process.wait(30), out, shown.decode()


def big_text_of_few_tokens(path: Path, lines: int = 400) -> Path:
    """JSON lines whose text is short and which bring much else: tokenising them is reading them."""
    row = json.dumps({"text": "the cat", "raw": "x" * 200_000})
    path.write_text((row + "\n") * lines)
    return path


def test_data_stats_shows_on_a_terminal_how_far_it_is(tmp_path):
    big_text_of_few_tokens(tmp_path / "big.jsonl")
    arguments = ("data", "stats", "big.jsonl", "--tokenizer", "bytes", "--json")
    status, out, shown = on_a_terminal(*arguments, cwd=tmp_path, wide=60, NO_COLOR="1", HOME=str(tmp_path))
    assert status == 0 and json.loads(out)[0]["tokens"] == 2800
    assert re.search(r"hashing big\.jsonl: [\d.]+ MiB of 76\.3 MiB", shown)
    assert "tokenising big.jsonl" in shown
    assert "\x1b" not in shown
    assert all(len(line) < 60 for line in re.split(r"[\r\n]+", shown))
    assert shown.endswith("\r")
    piped = subprocess.run(
        [sys.executable, "-m", "watcher.cli", *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (piped.stderr, json.loads(piped.stdout)) == ("", json.loads(out))


def test_ctrl_c_while_data_is_looked_at_ends_with_one_word_and_no_traceback(tmp_path):
    with open(tmp_path / "big.txt", "wb") as file:
        for _ in range(1024):
            file.write(b"the tide came in\n" * 61_680)  # 1 GiB: seconds to hash, minutes to tokenise
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "watcher.cli", "data", "stats", "big.txt", "--tokenizer", "bytes"], cwd=tmp_path,
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while b"hashing" not in shown and b"tokenising" not in shown:
        shown += os.read(controller, 65536)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the whole group
    assert process.wait(20) == 130
    shown += os.read(controller, 65536)
    os.close(controller)
    assert b"stopped" in shown and b"Traceback" not in shown


def test_eval_shows_tokenising_before_the_windows(tmp_path):
    big_text_of_few_tokens(tmp_path / "big.jsonl")
    save_rosellm(tmp_path / "ckpt.pt", step=10, config={"vocab_size": 256})
    arguments = ("eval", "ckpt.pt", "--data", "big.jsonl", "--tokenizer", "bytes", "--device", "cpu", "--json")
    status, out, shown = on_a_terminal(*arguments, cwd=tmp_path, HOME=str(tmp_path))
    assert status == 0, shown
    assert json.loads(out)[0]["tokens"] == 2799
    order = [shown.index(words) for words in ("hashing big", "starting torchrun", "tokenising big", "evaluating big")]
    assert order == sorted(order)
    assert re.search(r"tokenising big: [\d.]+ \w+ of 76\.3 MiB", shown)


def test_a_daemon_that_reads_a_large_data_file_says_so_and_can_be_stopped_meanwhile(site):
    os.truncate(site.data, 64 << 30)  # sparse: minutes of reading
    daemon = site.start(wait=False)
    work = wait_until(lambda: at_work(site, "hashing"))
    assert (work["of"], work["total"], work["unit"]) == ("val", 64 << 30, "bytes")
    said = site.cli("status")
    assert said.returncode == 0
    assert re.search(r"daemon     starting, pid \d+\n", said.stdout)
    assert re.search(r"working    hashing val: [\d.]+ [MG]iB of 64\.0 GiB", said.stdout)
    wait_until(lambda: re.search(r"hashing val: [\d.]+ [MG]iB of 64\.0 GiB", site.log()))
    assert site.stop(daemon) == 0


def test_a_long_scan_is_told_by_status_log_and_page_with_the_files_so_far(site):
    (site.root / "slow").mkdir()
    (site.root / "slow" / "sitecustomize.py").write_text(SLOW_FOLDERS)
    for number in range(1600):
        (site.folder / f"{number}.json").touch()
    daemon = site.start(PYTHONPATH=f"{site.root / 'slow'}{os.pathsep}{ROOT}")
    first = wait_until(lambda: at_work(site, "scanning"))
    assert (first["of"], first["total"], first["unit"]) == ("run", 0, "files")
    later = wait_until(lambda: (now := at_work(site, "scanning")) and now["done"] > first["done"] and now)
    assert 0 < first["done"] < later["done"] <= 1600
    said = site.cli("status", "--json")
    assert (said.returncode, json.loads(said.stdout)["work"][0]["phase"]) == (0, "scanning")
    with subprocess.Popen(site.command("serve", "--port", "0"), stderr=subprocess.PIPE, text=True, cwd=ROOT) as page:
        try:
            assert page.stderr is not None
            address = re.search(r"http://\S+", page.stderr.readline())[0]
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert re.search(r"scanning run: [\d,]+ files", answer.read().decode())
        finally:
            page.terminate()
    wait_until(lambda: re.search(r"scanning run: [\d,]+ files", site.log()))
    wait_until(lambda: "scanning run: done" in site.log())
    wait_until(lambda: site.health().get("work") == [])
    assert site.stop(daemon) == 0


def test_a_backlog_that_is_taken_in_by_the_hundred_shows_how_many_of_them(site):
    files = 4000  # seconds of work, for a daemon that takes in more than a thousand a second
    for step in range(files):
        write_tiny(site.folder / f"step_{step}.pt", step)
    (site.state).mkdir(exist_ok=True)
    (site.state / "paused").touch()
    daemon = site.start()
    work = wait_until(lambda: at_work(site, "taking in"))
    assert 0 < work["done"] <= files == work["total"]
    wait_until(lambda: site.health().get("work") == [] and site.query("SELECT count(*) FROM checkpoints") == [(files,)])
    assert site.stop(daemon) == 0
