"""Questions about tasks: the scores of items, and scores that `results` has no column for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from evalcore.tasks.item_scores import ItemScores, ItemScoresError, unpack
from watcher.store.engine import Store
from watcher.store.schema import task_items

Row = dict[str, Any]
KEPT_MAX = 16  # some megabytes each
BEHIND = ("accuracy_norm_stderr", "bits_per_byte_stderr", "ppl_item")


class KeptItems:
    """Result id -> the scores of its items; read when asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, ItemScores | None] = {}

    def get(self, result_id: int) -> ItemScores | None:
        """None where no items are kept for this result, or none that can be read."""
        if result_id not in self._known:
            with self._store.read() as tx:
                packed = tx.execute(select(task_items.c.scores).where(task_items.c.result_id == result_id)).scalar()
            if len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[result_id] = _unpacked(packed)
        return self._known[result_id]


def with_scores(store: Store, rows: Sequence[Row]) -> list[Row]:
    """The rows, those of tasks with the columns of `task_items` beside those of `results`."""
    ids = [row["id"] for row in rows if row.get("task") is not None]
    scores: dict[int, Row] = {}
    columns = [task_items.c.result_id, *(task_items.c[name] for name in BEHIND)]
    with store.read() as tx:
        for start in range(0, len(ids), 500):
            query = select(*columns).where(task_items.c.result_id.in_(ids[start : start + 500]))
            scores |= {row.result_id: {name: getattr(row, name) for name in BEHIND} for row in tx.execute(query)}
    nothing: Row = dict.fromkeys(BEHIND)
    return [{**row, **scores.get(row["id"], nothing)} if row.get("task") is not None else row for row in rows]


def _unpacked(packed: bytes | None) -> ItemScores | None:
    try:
        return None if packed is None else unpack(packed)
    except ItemScoresError:
        return None
