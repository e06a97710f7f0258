"""Changes to existing jobs on request of a user or the settings: retry, cancel, bump, re-evaluate, revive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update

from watcher.domain.job import State
from watcher.store.engine import Store
from watcher.store.schema import checkpoints, eval_sets, jobs

NO_ATTEMPTS = {"hint": None, "charged": 0, "orphaned": 0, "not_before": None}
ACTIONS_FROM = {
    "retry": (State.FAILED, State.CANCELLED),
    "cancel": (State.QUEUED, State.RUNNING),
    "bump": (State.QUEUED,),
}
CHUNK = 5_000  # jobs changed in one statement: SQLite bounds how many values one may hold


def changeable(store: Store, action: str) -> list[int]:
    """Jobs that retry, cancel or bump can be done to."""
    states = ACTIONS_FROM.get(action, ())
    with store.read() as tx:
        return list(tx.execute(select(jobs.c.id).where(jobs.c.state.in_(states)).order_by(jobs.c.id)).scalars())


def change(store: Store, action: str, job_ids: Sequence[int], now: str) -> int:
    """What a user orders: retry, cancel or bump these jobs, in chunks. Returns how many changed."""
    with store.read() as tx:
        top = max(tx.execute(select(func.coalesce(func.max(jobs.c.priority), 0))).scalar_one(), 0)
    current = select(eval_sets.c.id).where(eval_sets.c.current == 1)
    values_of: dict[str, dict[str, Any]] = {
        "retry": {"state": State.QUEUED, "finished_at": None, "kind": None, "reason": None, **NO_ATTEMPTS},
        "cancel": {"state": State.CANCELLED, "kind": "by_user", "reason": "cancelled by a user", "token": None}
        | {"finished_at": now},
        "bump": {"priority": top + 1, "not_before": None},
    }
    allowed = [jobs.c.state.in_(ACTIONS_FROM[action])]
    if action == "retry":
        allowed.append(jobs.c.eval_set_id.in_(current))
    changed = 0
    for start in range(0, len(job_ids), CHUNK):
        with store.write() as tx:
            chosen = jobs.c.id.in_(job_ids[start : start + CHUNK])
            changed += tx.execute(update(jobs).where(chosen, *allowed).values(values_of[action])).rowcount
    return changed


def measure_again(store: Store, run: str, checkpoint_ids: Sequence[int] | None = None) -> int:
    """Queue every ended job of the run's standing versions on its current sets, to be evaluated although known."""
    current = select(eval_sets.c.id).where(
        eval_sets.c.run == run, eval_sets.c.current == 1, eval_sets.c.kind != "sample"
    )
    standing = select(checkpoints.c.id).where(checkpoints.c.run == run, checkpoints.c.superseded == 0)
    ended = jobs.c.state.in_((State.SUCCEEDED, State.FAILED))
    where = [jobs.c.run == run, ended, jobs.c.eval_set_id.in_(current), jobs.c.checkpoint_id.in_(standing)]
    model = select(checkpoints.c.model_digest).where(checkpoints.c.id == jobs.c.checkpoint_id).scalar_subquery()
    where.append(jobs.c.model_digest == model)
    if checkpoint_ids is not None:
        where.append(jobs.c.checkpoint_id.in_(checkpoint_ids))
    values = {"state": State.QUEUED, "finished_at": None, "kind": None, "reason": None, "again": 1, **NO_ATTEMPTS}
    with store.write() as tx:
        return tx.execute(update(jobs).where(*where).values(values)).rowcount


def ended_without_result(store: Store, checkpoint_ids: Sequence[int], set_ids: Sequence[int]) -> list[int]:
    """Failed or cancelled jobs of these checkpoints on these sets."""
    where = (jobs.c.checkpoint_id.in_(checkpoint_ids), jobs.c.eval_set_id.in_(set_ids))
    with store.read() as tx:
        query = select(jobs.c.id).where(*where, jobs.c.state.in_((State.FAILED, State.CANCELLED)))
        return list(tx.execute(query).scalars())


def revive_newest(store: Store, run: str) -> int:
    """Queue the skipped jobs of the run's newest checkpoint, which the stride or `backfill` left out; their number."""
    with store.write() as tx:
        newest = tx.execute(
            select(checkpoints.c.id)
            .where(checkpoints.c.run == run, checkpoints.c.superseded == 0, checkpoints.c.weights.is_(None))
            .order_by(checkpoints.c.observed_at.desc(), checkpoints.c.step.desc())
            .limit(1)
        ).scalar()
        where = (jobs.c.checkpoint_id == newest, jobs.c.state == State.CANCELLED, jobs.c.kind == "skipped")
        again = {"state": State.QUEUED, "finished_at": None, "kind": None, "reason": None}
        return tx.execute(update(jobs).where(*where).values(again)).rowcount
