"""When the daemon reports itself: the status file, systemd's status line, and log lines about its own long work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evalcore.progress import Progress
from watcher.domain.health import Facts, Health, HealthState, judge
from watcher.domain.timestamps import iso
from watcher.errors import StoreUnavailable
from watcher.launch import processes
from watcher.log import Log, sentence
from watcher.report import progress
from watcher.state.folder import StateFolder
from watcher.state.sd_notify import Notifier
from watcher.state.status_file import StatusReport, write_status
from watcher.store.engine import Store, shown_url
from watcher.store.read import queue

EVERY_S = 5.0
WORK_EVERY_S = 1.0  # while the daemon itself is busy
RECOUNT_S = 60.0  # jobs are counted again this often though nothing was written: a user may have, by hand
_SUMMARY = {"queued": "queued", "running": "running", "succeeded": "done", "failed": "failed"}
WORK_LOGGED_S = 5.0  # long work is logged after this, then at doubling intervals, and its end if it was logged


@dataclass
class StatusPublisher:
    """Every few seconds, and at once when the health turns bad."""

    store: Store
    state: StateFolder
    log: Log
    notifier: Notifier
    started_s: float = field(default_factory=time.time)
    _published_s: float = -1e9
    _health: Health = field(default_factory=lambda: Health(HealthState.STARTING))
    _parts: dict[str, Any] = field(default_factory=dict)  # runs and launches, as last published
    _counts: dict[str, int] = field(default_factory=dict)
    _counted: tuple[int, float] = (-1, -1e9)  # the store's writes by then, and when
    _logged: dict[tuple[str, str], float] = field(default_factory=dict)  # (phase, of) -> its duration when last logged

    def busy(self, work: Progress) -> None:
        """During work that holds up the tick: the status file and the log show it. May be called very often."""
        now_s = time.monotonic()
        if time.time() - work.since >= WORK_EVERY_S and now_s - self._published_s >= WORK_EVERY_S:
            self._published_s = now_s
            self._write([work])

    def publish(
        self,
        now_s: float,
        facts: Callable[[], Facts],
        works: Sequence[Progress],
        parts: Callable[[], dict[str, Any]],
        *,
        urgent: bool = False,
    ) -> None:
        """Once a tick. facts and parts are asked for only when it is time to write. urgent: something just broke."""
        every_s = WORK_EVERY_S if works or self._logged else EVERY_S
        if now_s - self._published_s < every_s and not (urgent and self._health.state is HealthState.OK):
            return
        self._published_s = now_s
        self._health, self._parts = judge(facts()), parts()
        counts = self._write(works)
        summary = ", ".join(f"{counts.get(state, 0)} {word}" for state, word in _SUMMARY.items())
        reasons = [sentence(reason) for reason in self._health.reasons[:2]]
        self.notifier.status("; ".join([f"{self._health.state}: {summary}", *reasons]))

    def stopped(self) -> None:
        self._health = Health(HealthState.STOPPED)
        self._write([])

    def _write(self, works: Sequence[Progress]) -> dict[str, int]:
        counts = self._count()
        self._log_work(works)
        report = StatusReport(
            pid=os.getpid(),
            boot_id=processes.boot_id(),
            started_at=iso(self.started_s),
            at=iso(time.time()),
            database=shown_url(self.store.url),
            state=self._health.state,
            reasons=[sentence(reason) for reason in self._health.reasons],
            work=works,
            queue=counts,
            **self._parts,
        )
        write_status(self.state.health, report)
        return counts

    def _count(self) -> dict[str, int]:
        """Jobs by state, counted only when they may have changed: an idle daemon beside 100,000 jobs stays idle."""
        now_s = time.monotonic()
        writes, counted_s = self._counted
        if self.store.shared or self.store.writes != writes or now_s - counted_s >= RECOUNT_S:
            try:
                self._counted, self._counts = (self.store.writes, now_s), queue.count_by_state(self.store)
            except StoreUnavailable:
                return {}
        return self._counts

    def _log_work(self, works: Sequence[Progress]) -> None:
        for work in works:
            took_s, before_s = work.at - work.since, self._logged.setdefault((work.phase, work.of), 0.0)
            if took_s >= max(WORK_LOGGED_S, 2 * before_s):
                self._logged[work.phase, work.of] = took_s
                self.log.event("working", words=progress.words(asdict(work), work.at))
        for phase, of in self._logged.keys() - {(work.phase, work.of) for work in works}:
            if self._logged.pop((phase, of)):
                self.log.event("worked", phase=phase, of=of)
