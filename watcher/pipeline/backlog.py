"""The files in a new run's folder before the first start, which `backfill` may exclude. In memory only."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from watcher.detect.scan import ScanReport


@dataclass
class Backlog:
    """decided: nothing is excluded (any more). whole: the first scan has reported all files."""

    decided: bool
    whole: bool = False
    _paths: set[str] = field(default_factory=set)

    def note(self, reports: Iterable[ScanReport]) -> None:
        """What the first whole scan observes was there before; what comes later is new."""
        for report in reports:
            if not self.decided and not self.whole and report.error is None:
                self._paths.update(path for path, _ in report.observations)
                self.whole = not report.more

    def holds(self, path: str) -> bool:
        return not self.decided and path in self._paths

    def discard(self, path: str) -> None:
        """Written again, it is new."""
        self._paths.discard(path)

    def close(self, settling: Container[str]) -> bool:
        """True once, when all of it has settled."""
        if self.decided or not self.whole or any(path in settling for path in self._paths):
            return False
        self.decided = True
        return True
