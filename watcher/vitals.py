"""The daemon's vital signs: facts gathered, judged by health.py, written to health.json and told to systemd."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from evalcore.contract import write_atomically
from watcher.clock import iso
from watcher.detect.observe import SCAN_SHARE
from watcher.errors import StoreUnavailable
from watcher.health import Facts, Health, RunFacts, judge
from watcher.launch import processes
from watcher.store import queue

if TYPE_CHECKING:
    from watcher.daemon import Daemon

EVERY_S = 5.0


class Vitals:
    """Told every few seconds, and at once when something goes bad."""

    def __init__(self) -> None:
        self._told_s = -1e9
        self._last: Health | None = None

    def tell(self, daemon: Daemon, now_s: float) -> None:
        """Judge, write health.json, and give systemd its status line."""
        well = self._last is not None and self._last.state == "ok"
        if now_s - self._told_s < EVERY_S and not (well and daemon.store_trouble):
            return
        health = judge(facts_of(daemon, now_s))
        self._told_s, self._last = now_s, health
        counts = self.write(daemon, health)
        words = f"{health.state}: {counts.get('queued', 0)} queued, {counts.get('running', 0)} running, "
        words += f"{counts.get('succeeded', 0)} done, {counts.get('failed', 0)} failed"
        daemon.notifier.status("; ".join([words, *health.reasons[:2]]))

    def write(self, daemon: Daemon, health: Health) -> dict[str, int]:
        """health.json, for `status` and the page. Returns the number of jobs in each state."""
        counts = _counts(daemon)
        said = {
            "pid": os.getpid(),
            "boot_id": processes.boot_id(),
            "started_at": iso(daemon.started_s),
            "at": iso(time.time()),
            "state": health.state,
            "reasons": list(health.reasons),
            "runs": [_run(intake) for intake in daemon.intakes],
            "queue": counts,
            "launches": [
                {"id": id_, "folder": str(live.folder.root), "device": live.running.plan.device, "items": live.items}
                for id_, live in daemon.dispatch.live.items()
            ],
        }
        try:
            write_atomically(daemon.state.health, json.dumps(said, indent=1), durable=False)
        except OSError:
            pass  # a full disk is told by the log and by systemd's status
        return counts


def facts_of(daemon: Daemon, now_s: float) -> Facts:
    """What health.py judges."""
    runs = []
    for intake in daemon.intakes:
        report, watch = intake.gatherer.last_report, intake.watch
        age_s = now_s - (report.at_s if report else intake.last_new_s)
        interval_s = max(intake.run.scan_s, (report.seconds if report else 0) / SCAN_SHARE)
        names = (intake.run.name, str(intake.run.dir))
        runs.append(RunFacts(*names, age_s, interval_s, intake.dir_missing, watch.polling_because, watch.overflows))
    dispatch, paused = daemon.dispatch, daemon.dispatch.paused or ""
    failure = dispatch.launch_failure.strip() if dispatch.launch_failures >= 2 else ""
    free = os.statvfs(daemon.state.root)
    return Facts(
        runs=runs,
        database=daemon.store_trouble,
        paused_by_person=paused == "by a person",
        data_missing=[paused.split(": ", 1)[1]] if paused.startswith("validation data") else [],
        launch_failure=failure.splitlines()[-1] if failure else None,
        waiting_for_device=dispatch.waiting_for,
        oldest_waiting_s=_oldest_waiting_s(daemon),
        state_free_bytes=free.f_bavail * free.f_frsize,
    )


def _run(intake) -> dict:
    report = intake.gatherer.last_report
    return {
        "name": intake.run.name,
        "dir": str(intake.run.dir),
        "last_scan_age_s": time.monotonic() - report.at_s if report else None,
        "scan_seconds": report.seconds if report else None,
        "matching": report.matching if report else None,
        "ignored": dict(report.ignored) if report else {},
        "settling": len(intake.gatherer.settler.candidates),
        "overflows": intake.watch.overflows,
    }


def _counts(daemon: Daemon) -> dict[str, int]:
    try:
        return queue.count_by_state(daemon.store)
    except StoreUnavailable:
        return {}


def _oldest_waiting_s(daemon: Daemon) -> float:
    try:
        oldest = queue.oldest_waiting_s(daemon.store)
    except StoreUnavailable:
        return 0.0
    return max(0.0, time.time() - oldest) if oldest is not None else 0.0
