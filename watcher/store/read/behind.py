"""What stands behind one result: nats of each window and position, scores of each item of a task. Reads only."""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass

from sqlalchemy import text

from evalcore.spikes import Spike, spikes_of
from evalcore.tasks.item_scores import ItemScores, ItemScoresError, unpack
from watcher.store.engine import Store
from watcher.store.packed import unpacked


@dataclass(frozen=True)
class Behind:
    """The database, asked for one result at a time."""

    store: Store

    def windows(self, result_id: int) -> tuple[array, array] | None:
        """(nats float64, targets) of each window; None where none are kept."""
        return self._pair("nats", "targets", result_id)

    def positions(self, result_id: int) -> tuple[array, array] | None:
        """(nats float64, targets) of each position in the window, over all windows; None where not recorded."""
        return self._pair("position_nats", "position_targets", result_id)

    def spikes(self, result_id: int) -> tuple[Spike, ...]:
        """The windows with the highest loss, highest first; empty where not recorded."""
        row = self._one("SELECT spikes FROM windows WHERE result_id = :id", result_id)
        if row is None or row[0] is None:
            return ()
        try:
            return spikes_of(zlib.decompress(row[0]).decode())
        except (zlib.error, ValueError):  # ContractError is a ValueError
            return ()

    def items(self, result_id: int) -> ItemScores | None:
        """Scores of the task's items; None where none are kept, or where they are damaged."""
        packed = self._one("SELECT scores FROM task_items WHERE result_id = :id", result_id)
        try:
            return unpack(packed[0]) if packed else None
        except ItemScoresError:
            return None

    def _pair(self, nats: str, targets: str, result_id: int) -> tuple[array, array] | None:
        row = self._one(f"SELECT {nats}, {targets} FROM windows WHERE result_id = :id", result_id)
        if row is None or row[0] is None or row[1] is None:
            return None
        try:
            return unpacked("d", row[0]), unpacked("I", row[1])
        except (zlib.error, ValueError):
            return None

    def _one(self, query: str, result_id: int) -> tuple | None:
        with self.store.read() as tx:
            row = tx.execute(text(query), {"id": result_id}).first()
            return tuple(row) if row is not None else None
