"""Gathers what the daemon knows about itself: facts for domain/health.py, and what the status file shows.

Asks the parts and the database; decides nothing and writes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evalcore.progress import Progress
from watcher.detect.events import SCAN_SHARE
from watcher.domain.health import Facts, Fault, Paused, RunFacts
from watcher.errors import StoreUnavailable
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.intake import PROBES_PER_TICK, Intake
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.read import queue

LONG_WORK_S = 1.0  # the daemon's own work is shown once it has taken this long


def health_facts(
    intakes: Sequence[Intake],
    dispatch: Dispatch,
    state: StateFolder,
    now_s: float,
    *,
    paused: Paused | None,
    database: str | None,
    faults: Sequence[Fault],
    reload_waits: str | None,
) -> Facts:
    """now_s: monotonic. database: why it cannot be used."""
    wait = dispatch.device_wait
    return Facts(
        runs=[_run_facts(intake, now_s) for intake in intakes],
        database=database,
        paused=paused,
        launch_failures=dispatch.launch_failures,
        launch_failure=dispatch.launch_failure,
        waiting_for_device=wait.reason if wait is not None else None,
        oldest_waiting_s=_oldest_waiting_s(dispatch.store, [intake.run.name for intake in intakes]),
        state_free_bytes=_free_bytes(state),
        faults=faults,
        reload_waits=reload_waits,
    )


def work_of(intake: Intake) -> Progress | None:
    """A run's scan or backlog, where it takes long; the files of a first scan are registered in batches."""
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
    return replace(work, since=at - (now_s - since_s), at=at) if now_s - since_s >= LONG_WORK_S else None


def run_status(intake: Intake) -> dict[str, Any]:
    """A watched run in the status file."""
    report = intake.prober.last_report
    return {
        "name": intake.run.name,
        "dir": str(intake.run.dir),
        "last_scan_age_s": time.monotonic() - report.at_s if report else None,
        "scan_seconds": report.seconds if report else None,
        "matching": report.matching if report and report.error is None else None,
        "ignored": dict(report.ignored) if report else {},
        "settling": len(intake.prober.settler.candidates),
        "overflows": intake.watch.overflows,
    }


def launch_status(dispatch: Dispatch) -> list[dict[str, Any]]:
    """The open launches in the status file."""
    return [
        {"id": name, "folder": str(launch.folder.root), "device": launch.running.plan.device, "items": launch.items}
        for name, launch in dispatch.live.items()
    ]


def _run_facts(intake: Intake, now_s: float) -> RunFacts:
    report, watch = intake.prober.last_report, intake.watch
    scanning = watch.scanning_since_s is not None
    at_s = report.at_s if report else intake.started_s
    age_s = now_s - (max(at_s, watch.looked_at_s) if scanning else at_s)
    return RunFacts(
        name=intake.run.name,
        dir=str(intake.run.dir),
        scan_age_s=age_s,
        interval_s=max(intake.run.scan_s, (report.seconds if report else 0) / SCAN_SHARE),
        missing=intake.dir_missing,
        polling_because=watch.polling_because,
        overflows=watch.overflows,
        looked=watch.looked if scanning else None,
    )


def _oldest_waiting_s(store: Store, runs: Sequence[str]) -> float:
    try:
        oldest = queue.oldest_waiting_s(store, runs)
    except StoreUnavailable:
        return 0.0
    return max(0.0, time.time() - oldest) if oldest is not None else 0.0


def _free_bytes(state: StateFolder) -> int:
    try:
        free = os.statvfs(state.root)
    except OSError:
        return 1 << 60  # the folder was removed, which the tick repairs
    return free.f_bavail * free.f_frsize
