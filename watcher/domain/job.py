"""The states of a job, and the transition at the end of an attempt. Pure: no clock, no randomness, no database.

    enqueue          claim            record
    ───────▶ queued ───────▶ running ────────▶ succeeded
               ▲                │  fail
               │  retry, rescue │ ────────────▶ failed (kind)
               └────────────────┤  cancel
                                └────────────▶ cancelled (superseded, skipped, by_user)

A crash of the worker leaves the job `running` with an open attempt, which the daemon ends when it reaps the launch. A
crash of the daemon does too; the next start ends that attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalcore.messages import Outcome

ORPHANED_MAX = 20
BACKOFF_FACTOR = 4
BACKOFF_MAX_S = 1800.0
JITTER = 0.2
#: Of the jobs of samples, so that they are claimed after every loss; others begin with 0.
SAMPLE_PRIORITY = -1


class State(StrEnum):
    """QUEUED: waits for a claim. RUNNING: in a launch, holds a token. The others are final and have finished_at."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Cause(StrEnum):
    """Why an attempt is over, seen from the daemon.

    ENDED: its worker exited. TIMEOUT: exceeded `launch.timeout_s`. STALLED: no progress for `launch.stall_s`.
    PROTOCOL: the outcome file is invalid or cannot be recorded. RELEASED: the daemon stopped gracefully, or the
    launch never started. ORPHANED: the daemon died. OOM: killed for memory. TAKEN_AWAY: pre-empted, or the node failed.
    """

    ENDED = "ended"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    PROTOCOL = "protocol"
    RELEASED = "released"
    ORPHANED = "orphaned"
    OOM = "oom"
    TAKEN_AWAY = "taken away"


@dataclass(frozen=True)
class JobFacts:
    """What a decision needs of a running job. charged, orphaned: attempts so far."""

    id: int
    charged: int
    orphaned: int


@dataclass(frozen=True)
class AttemptEnd:
    """One attempt's end as the daemon sees it. started: the worker had begun on it; only then it is charged."""

    cause: Cause
    started: bool
    outcome: Outcome | None = None
    detail: str = ""


@dataclass(frozen=True)
class RetryPolicy:
    """attempts: charged attempts after which a job has failed. first_backoff_s: the first pause."""

    attempts: int = 3
    first_backoff_s: float = 10.0


@dataclass(frozen=True)
class Transition:
    """What to write: the job's next state and the attempt's own end. pause_s: before the job may be claimed again."""

    state: State
    attempt_outcome: str
    kind: str | None = None
    reason: str | None = None
    hint: str | None = None
    charge: int = 0
    orphan: int = 0
    pause_s: float = 0.0
    records: bool = False


def after_attempt(job: JobFacts, end: AttemptEnd, policy: RetryPolicy, jitter: float) -> Transition:
    """The next state of a running job. An outcome file overrides everything else."""
    if end.outcome is not None:
        return _after_outcome(job, end.outcome, policy, jitter)
    if end.cause is Cause.ORPHANED:
        return _after_orphaning(job, "the daemon died")
    if end.cause is Cause.RELEASED or not end.started:
        return Transition(State.QUEUED, "released", reason=end.detail or None)
    if end.cause is Cause.TAKEN_AWAY:
        return _after_orphaning(job, "its machine was taken away")
    kind, what = {
        Cause.TIMEOUT: ("timeout", "it took longer than launch.timeout_s"),
        Cause.STALLED: ("timeout", "it made no progress for launch.stall_s"),
        Cause.OOM: ("oom", "it was killed for memory"),
        Cause.PROTOCOL: ("protocol", "the worker's outcome could not be used"),
        Cause.ENDED: ("crash", "the worker ended without an outcome"),
    }[end.cause]
    reason = f"{what}: {end.detail}" if end.detail else what
    return _retry_or_fail(job, kind, reason, "ckptwatch logs JOB prints its log", policy, jitter)


def _after_outcome(job: JobFacts, outcome: Outcome, policy: RetryPolicy, jitter: float) -> Transition:
    from evalcore.messages import DATA_CHANGED, DETERMINISTIC_KINDS  # listing verbs need the states alone

    if outcome.status in ("succeeded", "known"):
        return Transition(State.SUCCEEDED, "succeeded", charge=1, records=True)
    if outcome.status == "released":
        return Transition(State.QUEUED, "released", reason=outcome.reason)
    if outcome.status == "superseded" and outcome.kind == DATA_CHANGED:
        return _after_orphaning(job, outcome.reason or "the data files changed")
    if outcome.status == "superseded":
        reason = outcome.reason or "the file changed while it was evaluated"
        return Transition(State.CANCELLED, "superseded", kind="superseded", reason=reason)
    kind, reason = outcome.kind or "crash", outcome.reason or "no reason given"
    if kind in DETERMINISTIC_KINDS:
        return Transition(State.FAILED, "failed", kind=kind, reason=reason, hint=outcome.hint, charge=1)
    return _retry_or_fail(job, kind, reason, outcome.hint, policy, jitter)


def _retry_or_fail(
    job: JobFacts, kind: str, reason: str, hint: str | None, policy: RetryPolicy, jitter: float
) -> Transition:
    charged = job.charged + 1
    if charged >= policy.attempts:
        reason = f"{reason} ({charged} attempts)"
        return Transition(State.FAILED, "failed", kind=kind, reason=reason, hint=hint, charge=1)
    pause = backoff_s(policy.first_backoff_s, charged, jitter)
    return Transition(State.QUEUED, "failed", kind=kind, reason=reason, hint=hint, charge=1, pause_s=pause)


def _after_orphaning(job: JobFacts, what: str) -> Transition:
    """Not the job's fault (the daemon died, say): uncharged, queued again at once, at most ORPHANED_MAX times."""
    if job.orphaned + 1 >= ORPHANED_MAX:
        reason = f"{what} {ORPHANED_MAX} times while this was evaluated"
        return Transition(State.FAILED, "orphaned", kind="crash", reason=reason, orphan=1)
    return Transition(State.QUEUED, "orphaned", reason=what, orphan=1)


def backoff_s(first_s: float, charged: int, jitter: float) -> float:
    """first_s * 4^(charged-1), at most 30 min, spread by up to 20 % so that jobs do not return all at once.

    charged: attempts that counted so far, at least 1. jitter: uniform in [0, 1).
    """
    exponent = min(charged - 1, 16)
    pause = min(first_s * BACKOFF_FACTOR**exponent, BACKOFF_MAX_S)
    return min(pause * (1 + JITTER * (2 * jitter - 1)), BACKOFF_MAX_S)
