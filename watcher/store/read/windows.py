"""The windows behind each loss, and the items of a task in the same shape, read when asked for. Never writes."""

from __future__ import annotations

from array import array

from sqlalchemy import select

from watcher.store.engine import Store
from watcher.store.packed import unpacked
from watcher.store.read.tasks import KeptItems
from watcher.store.schema import windows


class KeptWindows:
    """Result id -> (nats as float64, targets as uint32), one entry per window; read when asked for.

    Of a task: one entry per item, the nats and tokens of its gold answer.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._items = KeptItems(store)
        self._known: dict[int, tuple[array, array] | None] = {}

    def get(self, result_id: int) -> tuple[array, array] | None:
        """None where no windows are kept for this result."""
        if result_id not in self._known:
            with self._store.read() as tx:
                row = tx.execute(select(windows).where(windows.c.result_id == result_id)).first()
            if len(self._known) >= 64:
                del self._known[next(iter(self._known))]
            if row is not None:
                self._known[result_id] = (unpacked("d", row.nats), unpacked("I", row.targets))
            else:
                items = self._items.get(result_id)
                self._known[result_id] = (items.gold_nats, items.gold_tokens) if items is not None else None
        return self._known[result_id]
