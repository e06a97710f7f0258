"""`every`: the last checkpoint of a run is evaluated though the stride left it out. Asks every 30 s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.domain.order import newest_is_due
from watcher.domain.timestamps import seconds
from watcher.log import Log
from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import outbox, requests

EVERY_S = 30.0


@dataclass
class StrideEnd:
    """Queues the newest skipped checkpoint of a run whose trainer seems to have stopped saving."""

    store: Store
    log: Log
    _due_s: float = 0.0

    def tick(self, runs: Sequence[RunSettings], now_s: float, at_s: float) -> None:
        """now_s: monotonic; at_s: seconds since the epoch. Raises StoreUnavailable."""
        strided = [run.name for run in runs if run.every > 1]
        if not strided or now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        for run in strided:
            with self.store.read() as tx:
                saves = outbox.last_saves(tx, run)
            is_due = newest_is_due([seconds(row["saved_at"]) for row in saves], at_s)
            if is_due and requests.revive_newest(self.store, run):
                self.log.event("newest_queued", run=run)
