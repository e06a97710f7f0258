"""Lists of jobs: what waits or runs, what failed, and the jobs of a run or an eval set. Reads only.

The columns are those of the views `queue` and `failures`, with the job's number, kind, hint and age.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from watcher.domain.job import State
from watcher.domain.timestamps import seconds
from watcher.store.engine import Store
from watcher.store.schema import attempts, candidates, checkpoints, eval_sets, jobs

Row = dict[str, Any]
_NAMES = (jobs.c.id.label("job"), jobs.c.run, checkpoints.c.path.label("checkpoint"), checkpoints.c.step)
_STATE = (
    *(eval_sets.c.name.label("eval_set"), jobs.c.state, jobs.c.reason, jobs.c.hint),
    jobs.c.charged.label("attempts"),
)


def waiting_or_running(store: Store, now_s: float) -> list[Row]:
    """Running jobs, then queued ones, next first. kind, reason: of the last attempt; age_s: since it was queued."""
    newest = select(attempts.c.kind).where(attempts.c.job_id == jobs.c.id).order_by(attempts.c.id.desc()).limit(1)
    query = (
        select(*_NAMES, *_STATE, newest.scalar_subquery().label("kind"), jobs.c.priority, jobs.c.not_before)
        .add_columns(jobs.c.enqueued_at, jobs.c.claimed_at, jobs.c.launch_id.label("launch"))
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(jobs.c.state.in_((State.QUEUED, State.RUNNING)))
        .order_by(jobs.c.state.desc(), jobs.c.priority.desc(), jobs.c.enqueued_at.desc())
    )
    with store.read() as tx:
        return [_aged(dict(row), "enqueued_at", now_s) for row in tx.execute(query).mappings()]


def failed(store: Store, now_s: float) -> list[Row]:
    """Failed jobs and files with a final verdict, oldest first; job is None for a file that was never registered.

    age_s: since it failed.
    """
    k = candidates.c
    failed_jobs = (
        select(*_NAMES, *_STATE, jobs.c.kind, jobs.c.finished_at.label("at"))
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(jobs.c.state == State.FAILED)
    )
    rejected = select(k.run, k.path.label("checkpoint"), k.kind, k.reason, k.hint, k.at).where(k.final == 1)
    absent = {"job": None, "step": None, "eval_set": None, "state": "rejected", "attempts": 0}
    with store.read() as tx:
        rows = [dict(row) for row in tx.execute(failed_jobs).mappings()]
        rows += [{**absent, **row} for row in tx.execute(rejected).mappings()]
    return [_aged(row, "at", now_s) for row in sorted(rows, key=lambda row: row["at"] or "")]


def jobs_of(store: Store, runs: Sequence[str] = (), sets: Sequence[str] = ()) -> list[int]:
    """Numbers of the jobs of any of these runs on any of these sets, oldest first. Empty: all runs, all sets."""
    query = select(jobs.c.id).select_from(jobs.join(eval_sets)).order_by(jobs.c.id)
    query = query.where(jobs.c.run.in_(list(runs))) if runs else query
    query = query.where(eval_sets.c.name.in_(list(sets))) if sets else query
    with store.read() as tx:
        return list(tx.execute(query).scalars())


def newest_launched(store: Store, runs: Sequence[str] = (), sets: Sequence[str] = ()) -> int | None:
    """The job of these runs and sets whose attempt began last; None where none was ever launched."""
    query = select(jobs.c.id).select_from(jobs.join(eval_sets).join(attempts, attempts.c.job_id == jobs.c.id))
    query = query.where(jobs.c.run.in_(list(runs))) if runs else query
    query = query.where(eval_sets.c.name.in_(list(sets))) if sets else query
    with store.read() as tx:
        return tx.execute(query.order_by(attempts.c.id.desc()).limit(1)).scalar()


def described(store: Store, states: Sequence[str], limit: int) -> list[Row]:
    """The newest jobs in one of these states, with their names, for shell completion."""
    query = select(*_NAMES, *_STATE, jobs.c.kind).select_from(jobs.join(checkpoints).join(eval_sets))
    with store.read() as tx:
        rows = tx.execute(query.where(jobs.c.state.in_(states)).order_by(jobs.c.id.desc()).limit(limit))
        return [dict(row) for row in rows.mappings()]


def _aged(row: Row, since: str, now_s: float) -> Row:
    return row | {"age_s": max(0.0, round(now_s - seconds(row[since]), 3)) if row[since] else None}
