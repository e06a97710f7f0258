"""Is everything well, and if not, why? Pure rules over facts; `status`, /healthz and sd_notify show the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SCAN_LATE = 3  # intervals
QUEUE_AGE_MAX_S = 6 * 3600.0
DISK_MIN_BYTES = 256 << 20


@dataclass(frozen=True)
class RunFacts:
    """One watched run. scan_age_s: since its last finished scan; interval_s: the pause it keeps between scans."""

    name: str
    dir: str
    scan_age_s: float
    interval_s: float
    missing: str | None = None
    polling_because: str | None = None
    overflows: int = 0
    looked: int | None = None  # entries that a scan under way has come past; scan_age_s is then since it moved


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    runs: Sequence[RunFacts]
    database: str | None = None  # why it cannot be used
    paused_by_person: bool = False
    data_missing: Sequence[str] = ()
    launch_failure: str | None = None
    waiting_for_device: str | None = None
    oldest_waiting_s: float = 0.0
    state_free_bytes: int = 1 << 60


@dataclass(frozen=True)
class Health:
    """state: ok | degraded | paused. reasons: one sentence each, the worst first."""

    state: str
    reasons: tuple[str, ...]


def judge(facts: Facts) -> Health:
    """Paused where nothing is claimed, degraded where something needs a person's eye."""
    stop: list[str] = []
    warn: list[str] = []
    if facts.database:
        stop.append(facts.database)
    if facts.data_missing:
        stop.append(f"validation data cannot be read: {', '.join(facts.data_missing)}")
    if facts.launch_failure:
        stop.append(f"torchrun cannot be started: {facts.launch_failure}")
    if facts.paused_by_person:
        stop.append("the queue was paused by a person (ckptwatch queue resume)")
    for run in facts.runs:
        if run.missing:
            warn.append(f"run {run.name}: {run.missing}")
        elif run.scan_age_s > SCAN_LATE * run.interval_s + 30:
            stuck = f"its scan has not moved for {run.scan_age_s:.0f} s, after {run.looked} files: does the mount hang?"
            late = f"the last scan ended {run.scan_age_s:.0f} s ago"
            warn.append(f"run {run.name}: {stuck if run.looked is not None else late}")
        if run.polling_because:
            warn.append(f"run {run.name}: {run.polling_because}")
    if facts.waiting_for_device:
        warn.append(f"waiting for a device: {facts.waiting_for_device}")
    if facts.oldest_waiting_s > QUEUE_AGE_MAX_S:
        warn.append(f"the oldest waiting job is {facts.oldest_waiting_s / 3600:.1f} h old")
    if facts.state_free_bytes < DISK_MIN_BYTES:
        warn.append(f"only {facts.state_free_bytes >> 20} MiB are free for the database and its state folder")
    if stop:
        return Health("paused", (*stop, *warn))
    return Health("degraded" if warn else "ok", tuple(warn))
