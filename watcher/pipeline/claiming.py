"""Which checkpoint a launch gets next: the runs in turn, each by its own order.

Claims through store/write/queue.py and remembers only whose turn it was. Never starts anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from watcher.domain.order import next_to_fill
from watcher.store.engine import Store
from watcher.store.write import queue, round_robin
from watcher.store.write.claimed import ClaimedCheckpoint


@dataclass
class Claimer:
    """Round robin over runs: the newest checkpoint of one run never waits behind another's whole backlog."""

    store: Store
    _turns: dict[str, int] = field(default_factory=dict)  # run -> number of its last turn

    def claim(
        self,
        launch: str,
        orders: Mapping[str, str],
        now: str,
        only: Collection[int] | None = None,
        launch_row: dict | None = None,
        *,
        samples: bool = True,
    ) -> ClaimedCheckpoint | None:
        """The next checkpoint for this launch; None when nothing is due.

        orders: run -> newest|oldest|fill. only: nothing but the losses of these checkpoints. launch_row: of a new
        launch. samples: those of a checkpoint where nothing else is due.
        """
        if not orders:
            return None
        if only is not None:
            return queue.claim_next(self.store, dict.fromkeys(orders, "oldest"), launch, now, list(only), launch_row)
        waiting = round_robin.runs_waiting(self.store, list(orders), now) if len(orders) > 1 else list(orders)
        for run in sorted(waiting, key=lambda run: self._turns.get(run, 0)):
            if claimed := self._claim_of_run(run, orders[run], launch, now, launch_row, samples):
                self._turns[run] = max(self._turns.values(), default=0) + 1
                return claimed
        return None

    def _claim_of_run(
        self, run: str, order: str, launch: str, now: str, launch_row: dict | None, samples: bool
    ) -> ClaimedCheckpoint | None:
        if order == "fill" and (waiting := round_robin.waiting_steps(self.store, run, now)):
            step = next_to_fill(waiting, round_robin.finished_steps(self.store, run))
            these = [waiting[step]]
            if claimed := queue.claim_next(self.store, {run: order}, launch, now, these, launch_row, samples=samples):
                return claimed
        return queue.claim_next(self.store, {run: order}, launch, now, None, launch_row, samples=samples)


Unavailable = Callable[[str], str | None]  # run -> why its files cannot be trusted to be gone, or be read, now
