"""`python -m tests.faults.chaos N [SEED]`: kills the daemon N times; after each, nothing may be lost or doubled.

Each round a fresh process boots the real daemon on one folder and dies by SIGKILL: at a named place in the code, or at
a random moment, half of the time with a job in hand; now and then a worker is killed as well. The daemon is forked from
a process that has imported it, so that a round takes a second and not three. The worker is the fake one.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from evalcore.archive import probe
from tests.faults.fake_worker import loss_of
from tests.support.daemon import Site, wait_until
from tests.support.tiny import tiny_bytes, write_tiny
from watcher import failpoints
from watcher.daemon import Daemon
from watcher.log import Log
from watcher.settings.load import load_settings
from watcher.state.folder import StateFolder

PLACES = (
    "after_register", "after_claim", "after_spawn", "after_started", "before_record", "after_record",
    "before_end", "after_rescue", "before_pin",
)  # fmt: skip
ORPHAN_LIMIT_S = 5.0


@dataclass
class Chaos:
    """One site under fire. written: path -> digest of the content that stands there."""

    site: Site
    chance: random.Random
    written: dict[str, str] = field(default_factory=dict)
    seen: dict[tuple, float | None] = field(default_factory=dict)
    kills: Counter = field(default_factory=Counter)
    slowest_orphan_s: float = 0.0
    slowest_rescue_s: float = 0.0
    with_jobs: int = 0
    step: int = 0

    def round(self) -> None:
        """New files, a daemon, its death, and a look at what is left."""
        self._write_some()
        place = self.chance.choice([*PLACES, *[""] * len(PLACES)])
        count = self.chance.choice((1, 1, 2, 3))
        pid = fork_daemon(self.site, f"{place}:kill9:{count}" if place else "")
        self._await_death(pid, place)
        self._check()

    def finish(self) -> None:
        """A daemon that may live: every file has its row, with the number of its own content."""
        began_s = time.monotonic()
        pid = fork_daemon(self.site, "")
        wait_until(lambda: not self._stale_attempts(began_s), within_s=30, every_s=0.02)
        self.slowest_rescue_s = max(self.slowest_rescue_s, time.monotonic() - began_s)
        wait_until(self._all_rows, within_s=300, every_s=0.2)
        wait_until(lambda: self.site.health().get("pid") == pid)  # earlier ones may have done all: this one is up too
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        self._check()
        for job in self.site.jobs():
            assert job[1] in ("succeeded", "cancelled"), job

    def _write_some(self) -> None:
        for _ in range(self.chance.choice((0, 1, 1, 2))):
            self.step += 1
            if self.chance.random() < 0.2:
                path = self.site.folder / "ckpt.pt"
                path.write_bytes(tiny_bytes(self.step))
            else:
                path = write_tiny(self.site.folder / f"step_{self.step}.pt", self.step)
            self.written[path.name] = probe(str(path)).digest

    def _await_death(self, pid: int, place: str) -> None:
        limit_s = self.chance.uniform(0.0, 1.6)
        if place:
            limit_s += 1.0
        elif self.chance.random() < 0.5:  # a random moment of a job, not of the boot
            deadline_s = time.monotonic() + 3
            while not self.site.job_processes() and time.monotonic() < deadline_s:
                pause(0.01)
            limit_s = self.chance.uniform(0.0, 0.5)
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s and not ended(pid):
            pause(0.01)
        jobs = self.site.job_processes()
        if self.chance.random() < 0.05 and jobs:
            kill(self.chance.choice(jobs))
            self.kills["worker"] += 1
        if ended(pid):
            self.kills[place] += 1
        else:
            self.with_jobs += bool(jobs)
            kill(pid)
            self.kills["random moment"] += 1
            os.waitpid(pid, 0)
        began_s = time.monotonic()
        while self.site.job_processes():
            assert time.monotonic() - began_s < ORPHAN_LIMIT_S, "a worker outlived its daemon"
            pause(0.02)
        self.slowest_orphan_s = max(self.slowest_orphan_s, time.monotonic() - began_s)

    def _check(self) -> None:
        if not self.site.database.exists() and not self.seen:
            return  # the first daemon died before it had made one
        self.site.assert_sound()
        rows = self.site.query("SELECT checkpoint, checkpoint_digest, eval_set, eval_digest, loss FROM results")
        now = {row[:4]: row[4] for row in rows}
        assert len(now) == len(rows), "a result is doubled"
        assert {key: now.get(key) for key in self.seen} == self.seen, "a committed result was lost or changed"
        for key, loss in now.items():
            assert abs(loss - loss_of(key[1])) < 1e-9, f"{key} has the number of another content"
        self.seen = now

    def _stale_attempts(self, began_s: float) -> bool:
        rows = self.site.query("SELECT a.claimed_at FROM attempts a WHERE a.outcome IS NULL")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - (time.monotonic() - began_s)))
        return any(row[0] < stamp for row in rows)

    def _all_rows(self) -> bool:
        rows = set(self.site.query("SELECT checkpoint, checkpoint_digest FROM results"))
        queued = self.site.query("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")[0][0]
        return set(self.written.items()) <= rows and queued == 0


def fork_daemon(site: Site, failpoint: str) -> int:
    """The pid of a process that boots and runs the daemon of the site."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        log = os.open(site.root / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        failpoints.arm(failpoint)
        settings = load_settings(site.config)
        Daemon.boot(settings, str(site.database), StateFolder.beside(str(site.database)), Log()).run()
        status = 0
    except SystemExit as left:  # a signal while a tick looks at a large file: the process ends with this status
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()  # to the daemon's log, which is printed where the run fails
        raise
    finally:
        os._exit(status)


def ended(pid: int) -> bool:
    """Has our child ended? Collects it if so, and expects that it was killed."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    if found:
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"the daemon ended by itself: {status}"
    return bool(found)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def main(kills: int, seed: int) -> None:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        rules = [
            {"match": "*[13579].pt", "do": "answer", "pause_s": 0.15},
            {"match": "*4.pt", "do": "fail", "kind": "oom", "tries": 1},
        ]
        launch = {"attempts": 50, "backoff_s": 0.01}
        site = Site(Path(folder), settle_s=0.05, scan_s=0.3, rules=rules, launch=launch)
        chaos = Chaos(site, random.Random(seed))
        try:
            for number in range(1, kills + 1):
                chaos.round()
                if number % 50 == 0:
                    print(f"{number} kills, {len(chaos.seen)} results, {time.monotonic() - began_s:.0f} s", flush=True)
            chaos.finish()
        except BaseException:
            print((site.root / "daemon.log").read_text()[-5000:], file=sys.stderr)
            print(f"seed {seed}", file=sys.stderr)
            raise
        finally:
            for pid in site.job_processes():
                kill(pid)
        by_place = ", ".join(f"{name} {number}" for name, number in sorted(chaos.kills.items()))
        print(f"kills: {kills} ({by_place}); {chaos.with_jobs} of the random ones while a job ran")
        print(f"files: {len(chaos.written)}; results: {len(chaos.seen)}; lost: 0; doubled: 0; wrong: 0")
        print(f"orphans gone after at most {chaos.slowest_orphan_s:.2f} s; last rescue {chaos.slowest_rescue_s:.2f} s")
        print(f"database whole after every kill; {time.monotonic() - began_s:.0f} s, seed {seed}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
