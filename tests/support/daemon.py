"""A watched folder with its database, settings and data, and real `ckptwatch` processes on it.

Owns starting, stopping and waiting on conditions; the processes it starts are ended with the test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "faults" / "fake_worker.py"
PYTHON = sys.executable


def wait_until(condition: Callable[[], Any], within_s: float = 30.0, every_s: float = 0.05) -> Any:
    """The condition's first true value. A generous limit that only a fault reaches."""
    pause = threading.Event()
    turns = int(within_s / every_s)
    for _ in range(turns):
        if value := condition():
            return value
        pause.wait(every_s)
    if value := condition():
        return value
    raise AssertionError(f"not within {within_s} s: {getattr(condition, '__doc__', None) or condition}")


@dataclass
class Site:
    """One test's place: `folder` is watched; database, state, settings and notes lie beside it."""

    root: Path
    settle_s: float = 0.2
    scan_s: float = 0.5
    run: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    fake: bool = True
    sets: int = 1
    rules: list[dict[str, Any]] = field(default_factory=list)
    started: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(self.run.get("dir", self.root / "checkpoints"))
        self.database = Path(self.store.get("url", self.root / "ckptwatch.db"))
        self.state = self.database.with_name(self.database.name + ".state")
        self.config = self.root / "ckptwatch.toml"
        self.notes = self.root / "notes"
        self.data = self.root / "val.bin"
        for folder in (self.folder, self.notes):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            chance = random.Random(1)
            self.data.write_bytes(struct.pack("<200H", *(chance.randrange(64) for _ in range(200))))
        self.configure()

    def configure(self) -> None:
        """Write rules, the fake's wrapper and ckptwatch.toml anew from the fields."""
        rules, wrapper = self.root / "rules.json", self.root / "python"
        rules.write_text(json.dumps(self.rules))
        other = f'case "$1" in -m) ;; *) exec {PYTHON} "$@" ;; esac'  # what is not torchrun is no business of the fake
        wrapper.write_text(f'#!/bin/sh\n{other}\nexec {PYTHON} -I -S "{FAKE}" "{rules}" "{self.notes}" "$@"\n')
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        launch = {"device": "cpu", "threads": 1, "backoff_s": 0.05, **self.launch}
        if self.fake:
            launch.setdefault("python", wrapper)
        run = {"name": "run", "dir": self.folder, "settle_s": self.settle_s, "scan_s": self.scan_s, **self.run}
        data = {"data": [self.data], "format": "raw", "token_dtype": "uint16"}
        sections = [("[[run]]", run), ("[launch]", launch)]
        for number in range(self.sets):
            sections.append(("[[eval]]", {"name": f"val{number or ''}", "seq_len": 16 + number, **data}))
        sections.append(("[store]", {"url": str(self.database), **self.store}))
        self.config.write_text("\n".join(f"{head}\n{_toml(values)}" for head, values in sections))

    # -- processes -------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-m", "watcher.cli", "-c", str(self.config), *arguments]

    def start(self, *arguments: str, wait: bool = True, prefix: tuple[str, ...] = (), **env: str) -> subprocess.Popen:
        """A daemon in the background; its words go to daemon-N.log. wait: until it has taken the lock and booted."""
        log = open(self.root / f"daemon-{len(self.started)}.log", "wb")
        process = subprocess.Popen(
            [*prefix, *self.command("run", *arguments)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        )  # fmt: skip
        log.close()
        self.started.append(process)
        if wait:
            wait_until(lambda: "watching" in self.log() or process.poll() is not None)
            assert process.poll() is None, self.log()
        return process

    def log(self, number: int = -1) -> str:
        """What the newest daemon said."""
        index = len(self.started) - 1 if number < 0 else number
        return (self.root / f"daemon-{index}.log").read_text(errors="replace")

    def once(self, *arguments: str, timeout_s: float = 150, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command("run", "--once", *arguments), capture_output=True, text=True, errors="replace",
            cwd=self.root, timeout=timeout_s, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        )  # fmt: skip

    def cli(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.root, timeout=timeout_s,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def stop(self, process: subprocess.Popen | None = None, within_s: float = 60) -> int:
        process = process or self.started[-1]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return process.wait(within_s)

    def kill(self, process: subprocess.Popen | None = None) -> None:
        process = process or self.started[-1]
        process.kill()
        process.wait(10)

    def end(self) -> None:
        """Nothing of this site is left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        for pid in self.job_processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def job_processes(self) -> list[int]:
        """Living processes that carry the mark of a launch of this site."""
        names = {p.name for p in (self.state / "launches").glob("*")} if self.state.exists() else set()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and launch_of(int(entry)) in names:
                found.append(int(entry))
        return found

    def stop_hearing(self, listener: Any, quiet_s: float = 1.0) -> bool:
        """Empty a datagram socket; True once nothing has come for quiet_s."""
        before = listener.gettimeout()
        listener.settimeout(quiet_s)
        try:
            while listener.recv(4096):
                pass
        except TimeoutError:
            return True
        finally:
            listener.settimeout(before)
        return False

    # -- what became of it -----------------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> list[tuple]:
        try:
            # rw: a reader that may not write cannot roll back the journal of a killed daemon
            connection = sqlite3.connect(f"file:{self.database}?mode=rw", uri=True, timeout=10)
        except sqlite3.OperationalError:
            return []
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                return []
            raise
        finally:
            connection.close()

    def query_write(self, sql: str) -> None:
        """What a user does in sqlite3's shell: foreign keys are off."""
        connection = sqlite3.connect(self.database, timeout=10, isolation_level=None)
        try:
            connection.execute(sql)
        finally:
            connection.close()

    def results(self) -> dict[str, list[float | None]]:
        """checkpoint -> the losses of its rows, in order."""
        rows: dict[str, list[float | None]] = {}
        for path, loss in self.query("SELECT checkpoint, loss FROM results ORDER BY id"):
            rows.setdefault(path, []).append(loss)
        return rows

    def failures(self) -> dict[str, tuple[str, str]]:
        """checkpoint -> (kind, reason)."""
        return {path: (kind, why) for path, kind, why in self.query("SELECT checkpoint, kind, reason FROM failures")}

    def jobs(self) -> list[tuple]:
        """(path, state, kind, charged, orphaned) of every job."""
        return self.query(
            "SELECT c.path, j.state, j.kind, j.charged, j.orphaned FROM jobs j"
            " JOIN checkpoints c ON c.id = j.checkpoint_id ORDER BY j.id"
        )

    def health(self) -> dict[str, Any]:
        try:
            return json.loads((self.state / "health.json").read_text())
        except (OSError, ValueError):
            return {}

    def wait_for_results(self, number: int, within_s: float = 60) -> dict[str, list[float | None]]:
        def enough():
            rows = self.results()
            return rows if sum(map(len, rows.values())) >= number else None

        return wait_until(enough, within_s)

    def wait_for_job(self, state: str, number: int = 1, within_s: float = 30) -> None:
        wait_until(lambda: sum(job[1] == state for job in self.jobs()) >= number, within_s)

    def assert_sound(self) -> None:
        """The database is whole, and nothing is doubled or dangling in it."""
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        assert self.query("PRAGMA foreign_key_check") == []
        cell = "run, checkpoint, checkpoint_digest, eval_set, eval_digest"
        assert self.query(f"SELECT {cell}, count(*) FROM results GROUP BY {cell} HAVING count(*) > 1") == []
        open_attempts = "SELECT j.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.outcome IS NULL"
        assert self.query(f"{open_attempts} AND j.state != 'running'") == []


def launch_of(pid: int) -> str:
    """The launch whose mark a process carries, or nothing."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(b"CKPTWATCH_LAUNCH="):
            return entry.partition(b"=")[2].decode(errors="replace")
    return ""


def _toml(values: dict[str, Any]) -> str:
    def spelled(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (int, float)):
            return repr(value)
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(spelled(item) for item in value) + "]"
        return json.dumps(str(value), ensure_ascii=False)

    return "".join(f"{key} = {spelled(value)}\n" for key, value in values.items())
