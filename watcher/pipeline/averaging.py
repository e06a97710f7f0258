"""Means of checkpoints: with every new checkpoint, those of `[[average]]` get jobs; done ones release their members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from watcher.domain.averages import AverageSpec
from watcher.domain.timestamps import iso
from watcher.log import Log
from watcher.pipeline.intake import Intake
from watcher.store.engine import Store
from watcher.store.write import averages


@dataclass
class Averaging:
    """`tick` does one round. Raises StoreUnavailable."""

    store: Store
    log: Log
    specs: tuple[AverageSpec, ...]
    _seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def tick(self, intakes: Sequence[Intake], at_s: float) -> None:
        """at_s: seconds since the epoch."""
        if not self.specs:
            return
        for intake in intakes:
            run = intake.run.name
            mark = averages.mark_of(self.store, run)
            if self._seen.get(run) != mark:
                for path in averages.plan_averages(self.store, run, self.specs, intake.sets, iso(at_s)):
                    self.log.event("mean_queued", run=run, path=path)
                self._seen[run] = mark
        averages.settle_averages(self.store)
