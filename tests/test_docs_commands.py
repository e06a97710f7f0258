"""What the pages tell people to type: sh blocks run in order in one shell, and every verb and flag named exists.

Marks of a block: `sh` is run, `sh background` is started and awaited until three results are there, `sh no-run` and
`console` are only looked at.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from docs.from_code.cli import verbs
from tests.support.checkpoints import save_nanogpt, save_rosellm
from tests.support.database import small_run

ROOT = Path(__file__).parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "reference" not in page.parts]
COMMANDS = dict(verbs())
AWAIT = 'until [ "$(sqlite3 ckptwatch.db "SELECT count(*) FROM results" 2>/dev/null)" = 3 ]; do sleep 0.2; done\n'
#: Stands in where the machine has no sqlite3: the same SQLite, by Python's module.
SQLITE3 = """#!{python}
import sqlite3, sys
file, sql = [word for word in sys.argv[1:] if not word.startswith("-")]
for row in sqlite3.connect(f"file:{{file}}?mode=ro", uri=True).execute(sql):
    print("|".join(map(str, row)))
"""


def blocks(page: Path, kinds: str = r"sh|console") -> Iterator[tuple[str, str]]:
    """(mark, text) of every fenced block of these kinds; the mark is what stands behind the fence."""
    text = page.read_text(encoding="utf-8")
    for mark, body in re.findall(r"^```((?:" + kinds + r")[^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield mark.strip(), body


def run_blocks(page: Path, room: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the page's sh blocks in `room`, one after another in one bash; a command that fails ends it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    if shutil.which("sqlite3") is None:
        (tools / "sqlite3").write_text(SQLITE3.format(python=sys.executable))
        (tools / "sqlite3").chmod(0o755)
    script = "set -eu\ntrap 'for child in $(jobs -p); do kill $child && wait $child || true; done' EXIT\n"
    for mark, body in blocks(page, "sh"):
        if mark == "sh":
            script += body
        elif mark == "sh background":
            script += f"{body.strip()} &\n{AWAIT}"
    environment = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{tools}"
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        ["bash", "-c", script], cwd=room, env=environment, capture_output=True, text=True, timeout=380, check=False
    )


@pytest.mark.timeout(400)
def test_the_tutorial_can_be_followed(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    done = run_blocks(ROOT / "docs/tutorial.md", room, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split("|") for line in done.stdout.splitlines() if re.fullmatch(r"\d+\|[\d.]+\|[\d.]+", line)]
    assert [int(step) for step, _, _ in rows] == [30, 60, 90]
    losses = [float(loss) for _, loss, _ in rows]
    assert losses == sorted(losses, reverse=True)
    assert (room / "curve.html").read_text().startswith("<!doctype html>")
    assert (room / "results.csv").read_text().count("\n") == 4
    assert "evaluated once" not in done.stdout


@pytest.mark.timeout(400)
def test_the_readme_can_be_followed(tmp_path):
    room = tmp_path / "room"
    for folder in ("out", "checkpoints"):
        (room / folder).mkdir(parents=True)
    tokens = np.random.default_rng(0).integers(0, 64, 600).astype(np.uint16)
    save_nanogpt(room / "out/ckpt.pt", step=7)
    tokens.tofile(room / "val.bin")
    for step in (1000, 2000):
        save_rosellm(room / f"checkpoints/step_{step:05d}.pt", step=step, seed=step)
    np.save(room / "val.npy", tokens)
    done = run_blocks(ROOT / "README.md", room, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^1000\|[\d.]+\|[\d.]+$", done.stdout, re.MULTILINE)


def test_the_page_on_own_models_works_as_written_and_a_trainer_gets_the_same_number(tmp_path, monkeypatch):
    page, trainer = (ROOT / "docs/how-to" / name for name in ("own-model.md", "from-your-trainer.md"))
    for folder in ("src", "checkpoints", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src/mymodel.py").write_text(next(blocks(page, "python"))[1])
    (tmp_path / "ckptwatch.toml").write_text(next(blocks(page, "toml"))[1])
    np.random.default_rng(0).integers(0, 64, 2000).astype(np.uint16).tofile(tmp_path / "val.bin")
    shutil.copy(tmp_path / "val.bin", tmp_path / "data")
    monkeypatch.syspath_prepend(tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    import mymodel
    import torch

    config = {"vocab_size": 64, "width": 16}
    model = mymodel.TinyLm(**config)
    torch.save({"model": model.state_dict(), "config": config, "step": 100}, "checkpoints/step_100.pt")
    call = [sys.executable, "-m", "watcher.cli", "run", "--once", "--json", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    scope = {"model": model}
    exec(next(blocks(trainer, "python"))[1].replace("seq_len=1024", "seq_len=32"), scope)
    assert scope["result"].loss == pytest.approx(row["loss"], rel=1e-6)
    assert scope["result"].tokens == row["tokens"] == 1999


def test_queries_that_the_pages_show_can_be_asked(tmp_path):
    database = small_run(tmp_path / "ckptwatch.db")
    database.eval_set(name="code", digest="sha256:22")
    database.result(100, 4.0, eval_set="code", logged_val_loss=3.9)
    database.close()
    connection = sqlite3.connect(f"file:{tmp_path}/ckptwatch.db?mode=ro", uri=True)
    page = ROOT / "docs/how-to/queries.md"
    asked = [sql for _, body in blocks(page, "sql") if "ATTACH" not in body for sql in body.split(";") if sql.strip()]
    asked += re.findall(r"`(SELECT [^`]+ FROM curve [^`]+)`", page.read_text())
    failures, lags, logged, beside, curve = [connection.execute(sql).fetchall() for sql in asked]
    connection.close()
    assert failures == []
    assert len(lags) == 4
    assert logged == [(100, 4.0, 3.9, pytest.approx(0.1))]
    assert beside == [(100, 3.0, 4.0)]
    assert curve == [(100, 3.0), (200, 2.5), (300, 2.2)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_verb_and_flag_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    lines = [line for _, body in blocks(page) for line in body.splitlines()]
    lines += re.findall(r"`(ckptwatch [^`]+)`", text)
    wrong = [f"{line.strip()}: {why}" for line in lines for why in mistakes(line)]
    assert wrong == []


def test_a_verb_or_flag_that_does_not_exist_is_found():
    assert mistakes("$ ckptwatch resluts --json") == ["no verb resluts"]
    assert mistakes("ckptwatch results --bset | head") == ["results has no flag --bset"]
    assert mistakes("ckptwatch queue retyr 12") == ["no verb queue retyr"]
    assert mistakes("x=1 ckptwatch -c my.toml results --best --db FILE  # 'quoted'") == []


def mistakes(line: str) -> Iterator[str] | list[str]:
    """What is wrong with each call of ckptwatch in a line of shell."""
    found = []
    for call in re.findall(r"(?<![\w/.'\[-])(?:\./|\S*/bin/)?ckptwatch(?= )([^|;&>#)]*)", line):
        words = shlex.split(re.sub(r"['\"`]", " ", call))
        while words and words[0].startswith("-"):
            words = words[2:] if words[0] in ("-c", "--config") else words[1:]
        if not words or not words[0].islower() or not words[0].isalpha():
            continue
        verb = words.pop(0)
        command = COMMANDS.get(verb)
        if command is None:
            found.append(f"no verb {verb}")
            continue
        if isinstance(command, click.Group) and words and words[0].isalpha():
            verb = f"{verb} {words.pop(0)}"
            command = COMMANDS.get(verb)
            if command is None:
                found.append(f"no verb {verb}")
                continue
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
        found += [f"{verb} has no flag {flag}" for flag in flags if flag not in known]
    return found
