"""Verbs on pinned copies: which version has one, and which copies nothing waits for any more."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_, select, update

from watcher.domain.job import State
from watcher.store.engine import Store
from watcher.store.schema import average_members, averages, checkpoints, jobs


def keep_pinned(store: Store, checkpoint_id: int, spool_path: str | None) -> None:
    """Note where this version's own copy is; None where there is none any more."""
    with store.write() as tx:
        tx.execute(update(checkpoints).where(checkpoints.c.id == checkpoint_id).values(spool_path=spool_path))


_WAITING = select(jobs.c.checkpoint_id).where(jobs.c.state.in_((State.QUEUED, State.RUNNING)))
#: Members of a mean that is to come, or is not evaluated yet.
_OF_MEANS = (
    select(average_members.c.checkpoint_id)
    .join(averages, averages.c.id == average_members.c.average_id)
    .where(averages.c.state.in_(("waiting", "ready")))
)
#: Refused as the settings are: another model setting may make a model of it.
_REFUSED = (
    select(jobs.c.checkpoint_id)
    .join(checkpoints, checkpoints.c.id == jobs.c.checkpoint_id)
    .where(
        jobs.c.state == State.FAILED, jobs.c.kind == "unsupported", jobs.c.model_digest == checkpoints.c.model_digest
    )
)


def unneeded_pins(store: Store) -> list[tuple[int, str]]:
    """Pinned copies all of whose jobs have ended, none refused as `unsupported`, and that no mean takes."""
    return _pins(store, checkpoints.c.id.not_in(_REFUSED))


def refused_pins(store: Store) -> list[tuple[int, str]]:
    """Pinned copies that were refused as `unsupported`, the oldest first: kept while there is room."""
    return _pins(store, checkpoints.c.id.in_(_REFUSED))


def _pins(store: Store, which: ColumnElement[bool]) -> list[tuple[int, str]]:
    free = (checkpoints.c.id.not_in(_WAITING), checkpoints.c.id.not_in(_OF_MEANS))
    ended = (checkpoints.c.spool_path.is_not(None), *free)
    query = select(checkpoints.c.id, checkpoints.c.spool_path).where(*ended, which).order_by(checkpoints.c.id)
    with store.read() as tx:
        return [(row.id, row.spool_path) for row in tx.execute(query)]


def refused_under_other_settings(store: Store, run: str, model_settings: str) -> list[Any]:
    """Rows of pinned versions that were refused as `unsupported` under other `[model]` settings."""
    query = select(checkpoints).where(
        *(checkpoints.c.run == run, checkpoints.c.spool_path.is_not(None), checkpoints.c.id.in_(_REFUSED)),
        or_(checkpoints.c.model_settings.is_(None), checkpoints.c.model_settings != model_settings),
    )
    with store.read() as tx:
        return list(tx.execute(query.order_by(checkpoints.c.id)))


def pinned_paths(store: Store) -> set[str]:
    with store.read() as tx:
        return set(tx.execute(select(checkpoints.c.spool_path).where(checkpoints.c.spool_path.is_not(None))).scalars())
