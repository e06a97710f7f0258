"""What healthy means: pure rules over facts, with every threshold. `status`, /healthz and sd_notify all ask here.

`judge` is for the daemon itself; `judge_from_outside` is for a reader of its status file, where there may be no daemon.
Reasons are kinds with facts; watcher/log.py makes sentences of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from watcher.domain.timestamps import seconds

SCAN_LATE = 3  # intervals
SCAN_LATE_S = 30.0  # and this much more
QUEUE_AGE_MAX_S = 6 * 3600.0
DISK_MIN_BYTES = 256 << 20
SILENT_MAX_S = 60.0  # the status file is written every 5 s
LAUNCH_FAILURES_MIN = 2  # in a row, before the executor counts as broken


class HealthState(StrEnum):
    """OK, STARTING: no action needed. PAUSED: nothing is claimed. DEGRADED: something needs attention.

    STALLED: a process holds the lock and has not written its status file for a minute. UNKNOWN: no permission to see.
    """

    OK = "ok"
    STARTING = "starting"
    DEGRADED = "degraded"
    PAUSED = "paused"
    STALLED = "stalled"
    DOWN = "down"
    UNKNOWN = "unknown"
    STOPPED = "stopped"


#: What `ckptwatch status` exits with.
EXIT_CODES = {HealthState.OK: 0, HealthState.STARTING: 0, HealthState.DOWN: 10, HealthState.STALLED: 11}
EXIT_DEGRADED = 12


class Problem(StrEnum):
    """One kind of reason; its facts are named in the templates of watcher/log.py."""

    DATABASE = "database"
    DATA_MISSING = "data_missing"
    LAUNCH_FAILED = "launch_failed"
    PAUSED_BY_USER = "paused_by_user"
    RUN_MISSING = "run_missing"
    SCAN_STUCK = "scan_stuck"
    SCAN_LATE = "scan_late"
    POLLING = "polling"
    NO_DEVICE = "no_device"
    QUEUE_OLD = "queue_old"
    DISK_FULL = "disk_full"
    FAULT = "fault"
    RELOAD_WAITS = "reload_waits"
    REPORTED = "reported"  # a sentence of the daemon's status file
    NO_DAEMON = "no_daemon"
    OTHER_VERB = "other_verb"
    JUST_STARTED = "just_started"
    NO_REPORT = "no_report"
    SILENT = "silent"
    LOCK_UNREADABLE = "lock_unreadable"


@dataclass(frozen=True)
class Reason:
    problem: Problem
    facts: Mapping[str, Any] = field(default_factory=dict)


class Pause(StrEnum):
    """Why the daemon claims nothing."""

    BY_USER = "by_user"
    DATA_MISSING = "data_missing"
    DATA_CHANGING = "data_changing"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Paused:
    """A pause and the validation files that it is about."""

    pause: Pause
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """An unforeseen exception in one part of the daemon, which is retried at retry_s (monotonic)."""

    part: str
    error: str
    failures: int
    retry_s: float


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
    """What the daemon knows about itself. oldest_waiting_s: of the watched runs only."""

    runs: Sequence[RunFacts]
    database: str | None = None  # why it cannot be used
    paused: Paused | None = None
    launch_failures: int = 0
    launch_failure: str = ""
    waiting_for_device: str | None = None
    oldest_waiting_s: float = 0.0
    state_free_bytes: int = 1 << 60
    faults: Sequence[Fault] = ()
    reload_waits: str | None = None  # why new settings could not be applied yet


@dataclass(frozen=True)
class Health:
    """reasons: the worst first."""

    state: HealthState
    reasons: tuple[Reason, ...] = ()

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.state, EXIT_DEGRADED)


def judge(facts: Facts) -> Health:
    """PAUSED where nothing is claimed, DEGRADED where something needs attention."""
    stop = list(_blocking(facts))
    warn = [reason for run in facts.runs for reason in _of_run(run)]
    if facts.waiting_for_device:
        warn.append(Reason(Problem.NO_DEVICE, {"reason": facts.waiting_for_device}))
    if facts.oldest_waiting_s > QUEUE_AGE_MAX_S:
        warn.append(Reason(Problem.QUEUE_OLD, {"hours": facts.oldest_waiting_s / 3600}))
    if facts.state_free_bytes < DISK_MIN_BYTES:
        warn.append(Reason(Problem.DISK_FULL, {"mib": facts.state_free_bytes >> 20}))
    for fault in facts.faults:
        warn.append(Reason(Problem.FAULT, {"part": fault.part, "error": fault.error, "failures": fault.failures}))
    if facts.reload_waits:
        warn.append(Reason(Problem.RELOAD_WAITS, {"reason": facts.reload_waits}))
    if stop:
        return Health(HealthState.PAUSED, (*stop, *warn))
    return Health(HealthState.DEGRADED if warn else HealthState.OK, tuple(warn))


def _blocking(facts: Facts):
    if facts.database:
        yield Reason(Problem.DATABASE, {"reason": facts.database})
    if facts.paused is not None and facts.paused.pause is Pause.DATA_MISSING:
        yield Reason(Problem.DATA_MISSING, {"paths": ", ".join(facts.paused.paths)})
    if facts.launch_failures >= LAUNCH_FAILURES_MIN:
        lines = facts.launch_failure.strip().splitlines()
        yield Reason(Problem.LAUNCH_FAILED, {"reason": lines[-1] if lines else "no reason given"})
    if facts.paused is not None and facts.paused.pause is Pause.BY_USER:
        yield Reason(Problem.PAUSED_BY_USER)


def _of_run(run: RunFacts):
    if run.missing:
        yield Reason(Problem.RUN_MISSING, {"run": run.name, "reason": run.missing})
    elif run.scan_age_s > SCAN_LATE * run.interval_s + SCAN_LATE_S:
        problem = Problem.SCAN_LATE if run.looked is None else Problem.SCAN_STUCK
        yield Reason(problem, {"run": run.name, "age_s": run.scan_age_s, "looked": run.looked})
    if run.polling_because:
        yield Reason(Problem.POLLING, {"run": run.name, "reason": run.polling_because})


class LockState(StrEnum):
    """What a reader can tell about the daemon's lock. UNREADABLE: permission denied, so neither held nor free."""

    HELD = "held"
    FREE = "free"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class LockFacts:
    """The daemon's lock as another process sees it. age_s: since its holder took it.

    other_verb: the holder is no daemon but this verb, `eval` say.
    """

    state: LockState
    path: str = ""
    pid: int | None = None
    age_s: float = 0.0
    other_verb: str | None = None


def judge_from_outside(
    report: Mapping[str, Any] | None, lock: LockFacts, now_s: float, database: str | None = None
) -> Health:
    """Health from the daemon's last status file and its lock. database: why the reader itself cannot use it.

    now_s: seconds since the epoch. A daemon that took its lock less than a minute ago may not have reported yet.
    """
    report = report or {}
    own = [Reason(Problem.DATABASE, {"reason": database})] if database else []
    at = report.get("at") if isinstance(report.get("at"), str) else None
    who = {"pid": lock.pid, "at": at, "silent_s": _age_s(at, now_s)}
    if lock.state is LockState.UNREADABLE:
        return Health(HealthState.UNKNOWN, (*own, Reason(Problem.LOCK_UNREADABLE, {"path": lock.path})))
    if lock.other_verb is not None:
        facts = {"verb": lock.other_verb, "pid": lock.pid}
        return Health(HealthState.DOWN, (*own, Reason(Problem.OTHER_VERB, facts)))
    if lock.state is LockState.FREE:
        return Health(HealthState.DOWN, (*own, Reason(Problem.NO_DAEMON, who)))
    if at is None or (lock.pid is not None and report.get("pid") != lock.pid):
        if lock.age_s <= SILENT_MAX_S:
            return _with_own(Health(HealthState.STARTING, (Reason(Problem.JUST_STARTED, who),)), own)
        return Health(HealthState.STALLED, (*own, Reason(Problem.NO_REPORT, who)))
    silent_s = now_s - seconds(at)
    if silent_s > SILENT_MAX_S:
        return Health(HealthState.STALLED, (*own, Reason(Problem.SILENT, {**who, "silent_s": silent_s})))
    try:
        state = HealthState(str(report.get("state") or "ok"))
    except ValueError:
        state = HealthState.DEGRADED
    reasons = tuple(Reason(Problem.REPORTED, {"text": str(text)}) for text in report.get("reasons") or ())
    return _with_own(Health(state, reasons), own)


def _age_s(at: str | None, now_s: float) -> float | None:
    try:
        return None if at is None else now_s - seconds(at)
    except ValueError:  # a status file that someone edited
        return None


def _with_own(health: Health, own: Sequence[Reason]) -> Health:
    state = HealthState.DEGRADED if own and health.ok else health.state
    return Health(state, (*health.reasons, *own))
