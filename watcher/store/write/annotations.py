"""Notes and tags that people give to runs and checkpoints. Never touches jobs or results."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select

from watcher.store.engine import Store
from watcher.store.schema import checkpoints, metadata, runs

table = metadata.tables["annotations"]  # by its name: `annotations` is a name of __future__ here
TEXT_MAX = {"note": 4000, "tag": 60}  # characters


def annotate(store: Store, run: str, checkpoint_id: int | None, kind: str, text: str, now: str) -> bool:
    """Add a note or tag; whether it was added. A tag that is there is not added again. Raises ValueError."""
    text = text.strip()
    if kind not in TEXT_MAX or not text:
        raise ValueError(f"{kind!r} with {len(text)} characters is neither a note nor a tag")
    if len(text) > TEXT_MAX[kind]:
        raise ValueError(f"a {kind} has at most {TEXT_MAX[kind]:,} characters; this one has {len(text):,}")
    row: dict[str, Any] = {"run": run, "checkpoint_id": checkpoint_id, "kind": kind, "text": text}
    a = table.c
    with store.write() as tx:
        if tx.execute(select(runs.c.id).where(runs.c.name == run)).first() is None:
            raise ValueError(f"there is no run {run!r}")
        of_run = select(checkpoints.c.id).where(checkpoints.c.id == checkpoint_id, checkpoints.c.run == run)
        if checkpoint_id is not None and tx.execute(of_run).first() is None:
            raise ValueError(f"run {run!r} has no checkpoint number {checkpoint_id}")
        same = select(a.id).where(
            a.run == run, a.checkpoint_id.is_not_distinct_from(checkpoint_id), a.kind == kind, a.text == text
        )
        if tx.execute(same).first() is not None:
            return False
        tx.execute(insert(table).values(**row, at=now))
    return True


def remove_annotation(store: Store, annotation_id: int) -> bool:
    """Whether there was one."""
    with store.write() as tx:
        return tx.execute(delete(table).where(table.c.id == annotation_id)).rowcount > 0
