"""Alerts told for real: a program with the event on stdin, an HTTP server, Apprise, and the best link on a disk."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from watcher.alerts.channels import tell
from watcher.settings.schema import AlertSettings
from watcher.sinks.protocol import SinkError

EVENT = {
    "kind": "nonfinite",
    "text": "gpt: step_5.pt on val: the loss is not finite",
    "run": "gpt",
    "result": {"loss": None},
}


def alert(**settings) -> AlertSettings:
    return AlertSettings(on=("best", "nonfinite"), **settings)


class _Listening(BaseHTTPRequestHandler):
    heard: list[tuple[str, dict, dict]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).heard.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(type(self).status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        type(self).heard.append((self.path, {}, {"followed": True}))

    def log_message(self, *words) -> None:
        return


@pytest.fixture
def listening() -> Iterator[tuple[str, type[_Listening]]]:
    handler = type("Handler", (_Listening,), {"heard": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def program(path: Path, body: str) -> tuple[str, str]:
    path.write_text(body)
    return sys.executable, str(path)


def test_a_command_gets_the_event_on_stdin(tmp_path):
    heard = tmp_path / "heard.json"
    copies = program(tmp_path / "hook.py", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())")
    tell(alert(command=(*copies, str(heard))), EVENT, tmp_path)
    assert json.loads(heard.read_text()) == EVENT


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    body = "import os, subprocess, sys, time\np = subprocess.Popen(['sleep', '600'])\n"
    body += "open(sys.argv[1], 'w').write(f'{os.getpid()} {p.pid}')\ntime.sleep(600)\n"
    pids = tmp_path / "pids"
    hangs = program(tmp_path / "hook.py", body)
    with pytest.raises(SinkError, match=r"longer than 1\.5 s and was killed"):
        tell(alert(command=(*hangs, str(pids)), timeout_s=1.5), EVENT, tmp_path)
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: _gone(int(pid)), 10)


def test_a_command_that_fails_tells_its_last_words(tmp_path):
    fails = program(tmp_path / "hook.py", "import sys; print('no such channel', file=sys.stderr); sys.exit(3)")
    with pytest.raises(SinkError, match="status 3: no such channel"):
        tell(alert(command=fails), EVENT, tmp_path)
    with pytest.raises(SinkError, match="cannot be started"):
        tell(alert(command=(str(tmp_path / "absent"),)), EVENT, tmp_path)


def test_a_webhook_gets_the_event_as_json(listening, tmp_path):
    url, server = listening
    tell(alert(webhook=f"{url}/hooks/s3cret"), EVENT, tmp_path)
    ((path, headers, body),) = server.heard
    assert (path, headers["Content-Type"], body) == ("/hooks/s3cret", "application/json", EVENT)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_or_redirects_is_an_error_that_keeps_its_secret(listening, tmp_path, status):
    url, server = listening
    server.status = status
    with pytest.raises(SinkError) as caught:
        tell(alert(webhook=f"{url}/hooks/s3cret"), EVENT, tmp_path)
    assert str(status) in caught.value.cause and "s3cret" not in caught.value.cause
    assert len(server.heard) == 1


def test_a_webhook_that_nobody_answers_is_an_error(tmp_path):
    with pytest.raises(SinkError, match="cannot be reached"):
        tell(alert(webhook="http://127.0.0.1:9/x", timeout_s=2), EVENT, tmp_path)


def test_apprise_posts_to_what_its_url_names(listening, tmp_path):
    pytest.importorskip("apprise")
    url, server = listening
    tell(alert(apprise=url.replace("http://", "json://")), EVENT, tmp_path)
    ((_, _, body),) = server.heard
    assert (body["title"], body["message"]) == ("ckptwatch: nonfinite", EVENT["text"])
    with pytest.raises(SinkError, match="not a URL that Apprise knows"):
        tell(alert(apprise="nonsense"), EVENT, tmp_path)


def best(folder: Path, name: str, loss: float) -> dict:
    path = folder / name
    path.write_bytes(name.encode())
    status = path.stat()
    about = {"kind": "best", "text": "new best", "checkpoint": name, "step": 1, "result": {"loss": loss}}
    return {
        **about,
        "dir": str(folder),
        "source": str(path),
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path, Path]:
    made = tmp_path / "ckpts", tmp_path / "best", tmp_path / "memory"
    for folder in made:
        folder.mkdir()
    return made


def test_the_best_link_and_copy_follow_the_best_and_a_late_worse_one_is_left(folders):
    ckpts, aside, memory = folders
    rule = alert(best_link=aside / "best.pt", best_copy=aside / "deep" / "copy.pt")
    for name, loss in (("a.pt", 2.0), ("b.pt", 1.5), ("late.pt", 1.8)):
        tell(rule, best(ckpts, name, loss), memory)
    assert os.readlink(aside / "best.pt") == str(ckpts / "b.pt")
    assert (aside / "deep" / "copy.pt").read_bytes() == b"b.pt"
    assert sorted(p.name for p in aside.rglob("*.pt")) == ["best.pt", "copy.pt"]


def test_the_best_link_does_not_lie_in_the_watched_folder_unless_that_is_wanted(folders):
    ckpts, _, memory = folders
    (ckpts / "sub").mkdir()
    with pytest.raises(SinkError, match="inside_dir = true"):
        tell(alert(best_link=ckpts / "sub" / "best.pt"), best(ckpts, "a.pt", 2.0), memory)
    assert list((ckpts / "sub").iterdir()) == []
    tell(alert(best_link=ckpts / "best.pt", inside_dir=True), best(ckpts, "a.pt", 2.0), memory)
    assert (ckpts / "best.pt").is_symlink()


def test_a_best_that_was_overwritten_or_deleted_since_is_not_linked(folders):
    ckpts, aside, memory = folders
    event = best(ckpts, "a.pt", 2.0)
    (ckpts / "a.pt").write_bytes(b"another version")
    with pytest.raises(SinkError, match="overwritten"):
        tell(alert(best_copy=aside / "best.pt"), event, memory)
    (ckpts / "a.pt").unlink()
    with pytest.raises(SinkError, match="is gone"):
        tell(alert(best_link=aside / "best.pt"), event, memory)
    assert list(aside.iterdir()) == []


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
