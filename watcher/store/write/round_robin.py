"""Queries used to choose the run of the next claim. Reads only, each query in one short transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, or_, select

from watcher.domain.job import State
from watcher.store.engine import Store
from watcher.store.schema import checkpoints, jobs, runs
from watcher.store.write.queue import DUE

# For each run one step down an index; to group the whole queue by run would read all of it for every claim.
_TOP_PRIORITY = select(jobs.c.priority).where(DUE, jobs.c.run == runs.c.name).order_by(jobs.c.priority.desc()).limit(1)
_TOP_OF_RUNS = select(runs.c.name, _TOP_PRIORITY.correlate(runs).scalar_subquery().label("top")).where(
    runs.c.name.in_(bindparam("runs", expanding=True))
)


def runs_waiting(store: Store, names: Sequence[str], now: str) -> list[str]:
    """Those of the runs that have work due; where a person bumped some of it, only the runs of what was bumped last."""
    with store.read() as tx:
        tops = tx.execute(_TOP_OF_RUNS, {"runs": list(names), "at": now}).all()
    waiting = {row.name: row.top for row in tops if row.top is not None}
    return [name for name, top in waiting.items() if top == max(waiting.values())]


def waiting_steps(store: Store, run: str, now: str) -> dict[int, int]:
    """step -> checkpoint id of what is due, for the order `fill`; where some of it was bumped, of that alone."""
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.step, checkpoints.c.id, jobs.c.priority)
            .select_from(jobs.join(checkpoints))
            .where(
                jobs.c.state == State.QUEUED,
                jobs.c.run == run,
                checkpoints.c.step.is_not(None),
                or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
            )
        ).all()
    top = max((row.priority for row in rows), default=0)
    return {row.step: row.id for row in rows if row.priority == top}


def finished_steps(store: Store, run: str) -> set[int]:
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.step)
            .select_from(jobs.join(checkpoints))
            .where(jobs.c.run == run, jobs.c.state != State.QUEUED, checkpoints.c.step.is_not(None))
            .distinct()
        )
        return set(rows.scalars())
