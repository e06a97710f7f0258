"""What `status` says: is the daemon well, what runs and how far it is, when the queue will be empty. Pure.

watcher/domain/health.py judges from inside the daemon; this judges from outside, where there may be no daemon at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report import progress

Row = dict[str, Any]
STALLED_S = 60.0
HEALTHY, DOWN, STALLED, DEGRADED = 0, 10, 11, 12


@dataclass(frozen=True)
class Verdict:
    """state: ok | starting | down | stalled | degraded | paused. exit_code: what `status` ends with."""

    state: str
    exit_code: int
    reasons: tuple[str, ...] = ()


def judge(said: Row | None, holder_pid: int | None, lock_age_s: float, now_s: float) -> Verdict:
    """From the daemon's own health file and the lock. holder_pid: None where nobody holds the lock.

    lock_age_s: since the holder took it; a daemon has a minute to say its first word.
    """
    if holder_pid is None:
        last = f"the last one was seen at {said['at']}" if said and said.get("at") else "none has run here yet"
        return Verdict("down", DOWN, (f"no daemon holds the lock; {last}",))
    if said is None or said.get("pid") != holder_pid:
        if lock_age_s <= STALLED_S:
            return Verdict("starting", HEALTHY, (f"daemon {holder_pid} has just started",))
        return Verdict("stalled", STALLED, (f"daemon {holder_pid} has never told its health",))
    age_s = now_s - seconds(said["at"])
    if age_s > STALLED_S:
        return Verdict("stalled", STALLED, (f"daemon {holder_pid} was last heard of {age_s:.0f} s ago",))
    state = str(said.get("state", "ok"))
    reasons = tuple(str(reason) for reason in said.get("reasons", ()))
    return Verdict(state, HEALTHY if state in ("ok", "starting") else DEGRADED, reasons)


def with_progress(job: Row, said: Row | None, now_s: float) -> Row:
    """A running job with how far it is. said: the launch's progress file.

    eta_s: the time that is left of the evaluation if the windows to come take as long as those done.
    """
    mine = of_job(said, job["attempt"])
    return {
        **{key: job[key] for key in ("job", "run", "checkpoint", "step", "eval_set", "device", "launch", "claimed_at")},
        "phase": mine["phase"],
        **{key: mine.get(key) for key in ("done", "total", "unit")},
        "share": progress.share(mine),
        "eta_s": progress.left_s(mine, now_s),
        "progress": progress.amount(mine),
    }


def of_job(said: Row | None, attempt: int | None) -> Row:
    """What the launch does for this job: its own progress, the launch's before any job (attempt 0), or it waits."""
    if said is None:
        return {"phase": "starting"}
    if said.get("attempt") in (attempt, 0):
        return {**said, "phase": str(said.get("phase"))}
    return {"phase": "waiting in its launch"}


def queue_eta_s(queued: int, running: Sequence[Row], recent: Sequence[Row], launches: int) -> float | None:
    """Until the queue is empty: recent results' loading and evaluation times what waits, over the launches at work."""
    took = [row["load_seconds"] + row["eval_seconds"] for row in recent]
    if not took or not (queued or running):
        return None
    left_s = sum(row["eta_s"] for row in running if row["eta_s"] is not None)
    return (queued * sum(took) / len(took) + left_s) / max(1, launches)


def lag_s(queued_since: str | None, now_s: float) -> float | None:
    """Age of the oldest job that waits."""
    return None if queued_since is None else max(0.0, now_s - seconds(queued_since))
