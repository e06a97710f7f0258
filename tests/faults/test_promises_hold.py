"""Promises 1 to 3 under any order of events: files come, grow, move, change, go; the daemon ticks, dies, comes back."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evalcore.archive import probe
from tests.faults.fake_worker import loss_of
from tests.support.daemon import PYTHON, ROOT, Site
from tests.support.tiny import tiny_bytes
from watcher.daemon import Daemon
from watcher.launch import processes
from watcher.log import Log
from watcher.settings.load import load_settings
from watcher.state.folder import StateFolder

NAMES = st.sampled_from(["a_1.pt", "b_2.pt", "c_3.pt"])
CONTENTS = st.integers(1, 6)


class Folder(RuleBasedStateMachine):
    """A trainer and a daemon, one step of either at a time. The daemon is real, in this process; the worker is fake."""

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory(prefix="promises")
        rules = [{"match": "b*", "do": "answer", "pause_s": 0.05}]
        self.site = Site(Path(self.place.name), settle_s=0.03, scan_s=0.1, rules=rules)
        self.log = open(self.site.root / "daemon.log", "w")
        self.half: dict[str, bytes] = {}
        self.boot()

    def boot(self) -> None:
        state = StateFolder.beside(str(self.site.database))
        self.daemon = Daemon.boot(load_settings(self.site.config), str(self.site.database), state, Log(3, self.log))

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: int) -> None:
        """In place: the same inode if there is one."""
        (self.site.folder / name).write_bytes(tiny_bytes(content))
        self.half.pop(name, None)

    @rule(name=NAMES, content=CONTENTS)
    def write_half(self, name: str, content: int) -> None:
        whole = tiny_bytes(content, padding=200)
        (self.site.folder / name).write_bytes(whole[:350])
        self.half[name] = whole[350:]

    @precondition(lambda self: self.half)
    @rule()
    def append_the_rest(self) -> None:
        name, rest = self.half.popitem()
        with open(self.site.folder / name, "ab") as file:
            file.write(rest)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        if old != new and (self.site.folder / old).exists():
            (self.site.folder / old).rename(self.site.folder / new)
            self.half.pop(new, None)
            if old in self.half:
                self.half[new] = self.half.pop(old)

    @rule(name=NAMES)
    def unlink(self, name: str) -> None:
        (self.site.folder / name).unlink(missing_ok=True)
        self.half.pop(name, None)

    @rule(times=st.integers(1, 4))
    def tick(self, times: int) -> None:
        for _ in range(times):
            self.daemon.signals.wake.wait(0.03)
            self.daemon.signals.wake.clear()
            self.daemon.tick(time.monotonic())

    @rule()
    def restart(self) -> None:
        self.daemon.stop()
        self.boot()

    @rule()
    def kill(self) -> None:
        """What a SIGKILL leaves: locks gone, workers dead, nothing written any more."""
        self.abandon()
        self.boot()

    def abandon(self) -> None:
        self.daemon.watching.stop()
        for launch in self.daemon.dispatch.live:
            while processes.kill_members(launch):
                threading.Event().wait(0.01)
        self.daemon.owned.close()

    @invariant()
    def no_number_stands_under_another_content(self) -> None:
        if hasattr(self, "site"):
            rows = self.site.query("SELECT checkpoint, checkpoint_digest, loss FROM results")
            assert len({row[:2] for row in rows}) == len(rows)
            assert all(row[2] == pytest.approx(loss_of(row[1])) for row in rows), rows

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        try:
            deadline_s = time.monotonic() + 20
            while not self.all_told():
                assert time.monotonic() < deadline_s, (self.site.root / "daemon.log").read_text()
                self.tick(1)
            self.site.assert_sound()
        finally:
            self.abandon()
            self.site.end()
            self.log.close()
            self.place.cleanup()

    def all_told(self) -> bool:
        """Every whole file has the one row of its content, every half one none, and nothing waits."""
        rows = {row[:2] for row in self.site.query("SELECT checkpoint, checkpoint_digest FROM results")}
        standing = {p.name: p for p in self.site.folder.iterdir() if p.name not in self.half}
        wanted = {(name, probe(str(path)).digest) for name, path in standing.items()}
        busy = self.site.query("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")[0][0]
        return wanted <= rows and not busy


Folder.TestCase.settings = settings(
    max_examples=12, stateful_step_count=14, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestPromisesHold = Folder.TestCase
TestPromisesHold.__doc__ = "Rows 1, 2, 32, 35 to 38 and 61 in any order."


def test_row_61_killed_at_random_moments_nothing_is_lost_or_doubled():
    done = subprocess.run(
        [PYTHON, "-m", "tests.faults.chaos", "15", "3"], cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert "lost: 0; doubled: 0" in done.stdout


def test_row_76_four_hundred_jobs_leave_descriptors_and_threads_as_they_were():
    """The short form of `make soak`: descriptors and threads; ten thousand jobs tell the slope of the memory."""
    done = subprocess.run(
        [PYTHON, "-m", "tests.faults.soak", "400"], cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "400 jobs in" in done.stdout
