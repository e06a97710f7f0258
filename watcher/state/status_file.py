"""The daemon's vital signs: facts gathered, judged by health.py, written to health.json and told to systemd.

Long work of the daemon itself (hashing data, scanning, taking in a backlog) stands there too, as a Progress.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from evalcore.launch_folder import write_atomically
from evalcore.progress import Progress
from watcher.detect.events import SCAN_SHARE
from watcher.domain.health import Facts, Health, RunFacts, judge
from watcher.domain.timestamps import iso
from watcher.errors import StoreUnavailable
from watcher.launch import processes
from watcher.pipeline.intake import PROBES_PER_TICK, Intake
from watcher.report import progress
from watcher.store.engine import Store
from watcher.store.write import queue

if TYPE_CHECKING:
    from watcher.daemon import Daemon

EVERY_S = 5.0
RECOUNT_S = 60.0  # jobs are counted anew this often though nothing was written: a person may have, by hand
WORK_S = 1.0  # what the daemon itself does longer than this is told, this often
SAID_S = 5.0  # the log hears of it after this, then at twice the time and so on


class StatusFile:
    """Told every few seconds, and at once when something goes bad."""

    def __init__(self) -> None:
        self._told_s = -1e9
        self._last: Health | None = None
        self._counts: dict[str, int] = {}
        self._counted = (-1, -1e9)  # the store's writes by then, and when
        self._said: dict[tuple[str, str], float] = {}  # (phase, of) -> how long it had lasted when the log heard of it

    def tell_of(self, daemon: Daemon, work: Progress) -> None:
        """Work during which no round of the loop is made: health.json and the log hear of it meanwhile."""
        now_s = time.monotonic()
        if time.time() - work.since >= WORK_S and now_s - self._told_s >= WORK_S:
            self._told_s = now_s
            self.write(daemon, self._last or Health("starting", ()), [work])

    def tell(self, daemon: Daemon, now_s: float) -> None:
        """Judge, write health.json, and give systemd its status line."""
        well = self._last is not None and self._last.state == "ok"
        works = [work for intake in daemon.intakes if (work := work_of(intake)) is not None]
        every_s = WORK_S if works or self._said else EVERY_S
        if now_s - self._told_s < every_s and not (well and daemon.store_trouble):
            return
        health = judge(facts_of(daemon, now_s))
        self._told_s, self._last = now_s, health
        counts = self.write(daemon, health, works)
        words = f"{health.state}: {counts.get('queued', 0)} queued, {counts.get('running', 0)} running, "
        words += f"{counts.get('succeeded', 0)} done, {counts.get('failed', 0)} failed"
        daemon.notifier.status("; ".join([words, *health.reasons[:2]]))

    def write(self, daemon: Daemon, health: Health, works: Sequence[Progress] = ()) -> dict[str, int]:
        """health.json, for `status` and the page. Returns the number of jobs in each state."""
        counts = self._count(daemon.store)
        self._log(daemon, works)
        said = {
            "pid": os.getpid(),
            "boot_id": processes.boot_id(),
            "started_at": iso(daemon.started_s),
            "at": iso(time.time()),
            "state": health.state,
            "reasons": list(health.reasons),
            "work": [asdict(work) for work in works],
            "runs": [_run(intake) for intake in daemon.intakes],
            "queue": counts,
            "launches": [
                {"id": id_, "folder": str(live.folder.root), "device": live.running.plan.device, "items": live.items}
                for id_, live in (daemon.dispatch.live.items() if daemon.dispatch is not None else ())
            ],
        }
        try:
            write_atomically(daemon.state.health, json.dumps(said, indent=1), durable=False)
        except OSError:
            pass  # a full disk is told by the log and by systemd's status
        return counts

    def _count(self, store: Store) -> dict[str, int]:
        """Jobs in each state. Nothing costs an idle daemon more beside 100,000 of them: only when it may matter."""
        now_s = time.monotonic()
        writes, counted_s = self._counted
        if store.shared or store.writes != writes or now_s - counted_s >= RECOUNT_S:
            try:
                self._counted, self._counts = (store.writes, now_s), queue.count_by_state(store)
            except StoreUnavailable:
                return {}
        return self._counts

    def _log(self, daemon: Daemon, works: Sequence[Progress]) -> None:
        """What goes on long is said after a while, ever more seldom, and that it is over if it was said at all."""
        for work in works:
            lasted_s, before_s = work.at - work.since, self._said.setdefault((work.phase, work.of), 0.0)
            if lasted_s >= max(SAID_S, 2 * before_s):
                self._said[work.phase, work.of] = lasted_s
                daemon.log.event("working", words=progress.words(asdict(work), work.at))
        for phase, of in self._said.keys() - {(work.phase, work.of) for work in works}:
            if self._said.pop((phase, of)):
                daemon.log.event("worked", phase=phase, of=of)


def work_of(intake: Intake) -> Progress | None:
    """What a run's scan does at present, where it takes long; what a first one found is taken in by the hundred."""
    watch, report, now_s = intake.watch, intake.prober.last_report, time.monotonic()
    if report is not None and (report.more or len(intake.prober.settler.candidates) > PROBES_PER_TICK):
        since_s, done = intake.started_s, min(intake.registered, report.matching)
        work = Progress("taking in", done, report.matching, "files", intake.run.name)
    elif watch.scanning_since_s is not None:
        since_s = watch.scanning_since_s
        work = Progress("scanning", watch.looked, 0, "files", intake.run.name)
    else:
        return None
    at = time.time()
    return replace(work, since=at - (now_s - since_s), at=at) if now_s - since_s >= WORK_S else None


def facts_of(daemon: Daemon, now_s: float) -> Facts:
    """What health.py judges."""
    runs = []
    for intake in daemon.intakes:
        report, watch = intake.prober.last_report, intake.watch
        scanning = watch.scanning_since_s is not None
        at_s = report.at_s if report else intake.last_new_s
        age_s = now_s - (max(at_s, watch.looked_at_s) if scanning else at_s)
        interval_s = max(intake.run.scan_s, (report.seconds if report else 0) / SCAN_SHARE)
        names = (intake.run.name, str(intake.run.dir))
        looked = watch.looked if scanning else None
        trouble = (intake.dir_missing, watch.polling_because)
        runs.append(RunFacts(*names, age_s, interval_s, *trouble, watch.overflows, looked))
    dispatch, paused = daemon.dispatch, daemon.dispatch.paused or ""
    failure = dispatch.launch_failure.strip() if dispatch.launch_failures >= 2 else ""
    free = os.statvfs(daemon.state.root)
    return Facts(
        runs=runs,
        database=daemon.store_trouble,
        paused_by_person=paused == "by a person",
        data_missing=[paused.split(": ", 1)[1]] if paused.startswith("validation data cannot") else [],
        launch_failure=failure.splitlines()[-1] if failure else None,
        waiting_for_device=dispatch.waiting_for,
        oldest_waiting_s=_oldest_waiting_s(daemon),
        state_free_bytes=free.f_bavail * free.f_frsize,
    )


def _run(intake) -> dict:
    report = intake.prober.last_report
    return {
        "name": intake.run.name,
        "dir": str(intake.run.dir),
        "last_scan_age_s": time.monotonic() - report.at_s if report else None,
        "scan_seconds": report.seconds if report else None,
        "matching": report.matching if report else None,
        "ignored": dict(report.ignored) if report else {},
        "settling": len(intake.prober.settler.candidates),
        "overflows": intake.watch.overflows,
    }


def _oldest_waiting_s(daemon: Daemon) -> float:
    try:
        oldest = queue.oldest_waiting_s(daemon.store)
    except StoreUnavailable:
        return 0.0
    return max(0.0, time.time() - oldest) if oldest is not None else 0.0
