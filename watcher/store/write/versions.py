"""Determines the current version of a path: the one on disk now, as far as its bytes have been read.

Versions order by when they were observed, never by mtime. A version that was overwritten by a later step stays in the
curve; one of the same step, one that was undone by putting an older file back, and one of another model do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from watcher.domain.job import State
from watcher.store.schema import checkpoints, events, jobs, results

DAMAGED = ""  # the content digest of a version whose bytes were read and found damaged
#: Failures that tell what the bytes are: no number of this version stands any more.
ABOUT_THE_BYTES = ("corrupt",)

_c, _r = checkpoints.c, results.c
_VERSIONS = select(
    *(_c.id, _c.digest, _c.step, _c.observed_at, _c.undone, _c.content_digest, _c.model_digest),
).where(_c.run == bindparam("of_run"), _c.path == bindparam("at_path"))
_NUMBERS = select(_r.id, _r.superseded, _r.checkpoint_digest, _r.content_digest, _r.model_digest).where(
    _r.run == bindparam("of_run"), _r.checkpoint == bindparam("at_path")
)


def supersede(tx: Connection, older: Sequence[int], now: str, undone: Sequence[int] = ()) -> None:
    """Other versions of a path are gone from it, unless pinned: what waits without a pin is cancelled.

    undone: those of them that were observed after the version that came back.
    """
    tx.execute(update(checkpoints).where(_c.id.in_(older)).values(superseded=1))
    if undone:
        tx.execute(update(checkpoints).where(_c.id.in_(undone)).values(undone=1))
    gone = select(_c.id).where(_c.id.in_(older), _c.spool_path.is_(None))
    reason = "a newer version was written to the same path first"
    tx.execute(
        update(jobs)
        .where(jobs.c.state == State.QUEUED, jobs.c.checkpoint_id.in_(gone))
        .values(state=State.CANCELLED, kind="superseded", reason=reason, finished_at=now)
    )


def confirm(tx: Connection, checkpoint_id: int, content_digest: str | None) -> None:
    """A worker has read this version's bytes. DAMAGED where they are not what its directory claims."""
    tx.execute(update(checkpoints).where(_c.id == checkpoint_id).values(content_digest=content_digest))


def restand(tx: Connection, run: str, path: str, now: str) -> None:
    """Set `superseded` of every result of the path by what is known of its versions now."""
    place = {"of_run": run, "at_path": path}
    numbers = tx.execute(_NUMBERS, place).all()
    if not numbers:
        return
    versions = {row.digest: row for row in tx.execute(_VERSIONS, place)}
    changed: dict[int, list[int]] = {0: [], 1: []}
    for row in numbers:
        version = versions.get(row.checkpoint_digest)
        if version is None:
            continue
        superseded = int(not _stands(row, version, versions.values()))
        if superseded != row.superseded:
            changed[superseded].append(row.id)
    for superseded, ids in changed.items():
        if ids:
            tx.execute(update(results).where(_r.id.in_(ids)).values(superseded=superseded))
    if changed[0] or changed[1]:
        detail = {"checkpoint": path, "standing": changed[0], "superseded": changed[1]}
        tx.execute(insert(events).values(at=now, name="standing", run=run, detail=json.dumps(detail)))


def _stands(row: Any, version: Any, versions: Any) -> bool:
    if version.undone or (row.model_digest or "") != version.model_digest:
        return False
    since = (version.observed_at, version.id)
    if any(other.step == version.step and (other.observed_at, other.id) > since for other in versions):
        return False
    if version.content_digest is None:  # not read since it changed: its results keep their state
        return not row.superseded
    return row.content_digest == version.content_digest
