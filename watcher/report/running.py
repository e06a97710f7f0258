"""Running jobs with their progress, the age of the oldest queued job, and when the queue will be empty. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report import progress

Row = dict[str, Any]


def with_progress(job: Row, record: Row | None, now_s: float) -> Row:
    """A running job with its progress. record: the launch's progress file.

    eta_s: remaining seconds of this phase, if the rest takes as long per unit as what is done.
    """
    current = progress_of_job(record, job["attempt"])
    return {
        **{
            key: job[key]
            for key in ("job", "run", "checkpoint", "step", "eval_set", "set_kind", "device", "launch", "claimed_at")
        },
        "phase": current["phase"],
        **{key: current.get(key) for key in ("done", "total", "unit")},
        "share": progress.share(current),
        "eta_s": progress.remaining_s(current, now_s),
        "progress": progress.amount(current),
    }


def progress_of_job(record: Row | None, attempt: int | None) -> Row:
    """The launch's progress as far as it concerns this attempt. Attempt 0 in the record: the launch, before any job."""
    if record is None:
        return {"phase": "starting"}
    if record.get("attempt") in (attempt, 0):
        return {**record, "phase": str(record.get("phase"))}
    return {"phase": "assigned, not started"}


def queue_eta_s(queued: int, running: Sequence[Row], recent: Sequence[Row], launches: int) -> float | None:
    """Seconds until the queue is empty: mean loading and evaluation time of recent results times the queue's length,
    plus what running jobs still need, divided by the running launches. All without samples."""
    lasted_s = [row["load_seconds"] + row["eval_seconds"] for row in recent]
    if not lasted_s or not (queued or running):
        return None
    remaining_s = sum(row["eta_s"] for row in running if row["eta_s"] is not None)
    return (queued * sum(lasted_s) / len(lasted_s) + remaining_s) / max(1, launches)


def lag_s(queued_since: str | None, now_s: float) -> float | None:
    """Age of the oldest queued job."""
    return None if queued_since is None else max(0.0, now_s - seconds(queued_since))
