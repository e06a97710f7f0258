"""What `status` shows besides health: running jobs with their progress, when the queue will be empty. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report import progress

Row = dict[str, Any]


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
