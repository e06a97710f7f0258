"""Verbs on pinned copies: which version has one, and which copies nothing waits for any more."""

from __future__ import annotations

from sqlalchemy import select, update

from watcher.domain.job import State
from watcher.store.engine import Store
from watcher.store.schema import checkpoints, jobs


def keep_pinned(store: Store, checkpoint_id: int, spool_path: str | None) -> None:
    """Note where this version's own copy is; None where there is none any more."""
    with store.write() as tx:
        tx.execute(update(checkpoints).where(checkpoints.c.id == checkpoint_id).values(spool_path=spool_path))


def unneeded_pins(store: Store) -> list[tuple[int, str]]:
    """Pinned copies all of whose jobs have ended."""
    waiting = select(jobs.c.checkpoint_id).where(jobs.c.state.in_((State.QUEUED, State.RUNNING)))
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.id, checkpoints.c.spool_path).where(
                checkpoints.c.spool_path.is_not(None), checkpoints.c.id.not_in(waiting)
            )
        )
        return [(row.id, row.spool_path) for row in rows]


def pinned_paths(store: Store) -> set[str]:
    with store.read() as tx:
        return set(tx.execute(select(checkpoints.c.spool_path).where(checkpoints.c.spool_path.is_not(None))).scalars())
