"""How far a backlog of jobs is drained: `12/120` for the log. Counts ended jobs from one empty queue to the next."""

from __future__ import annotations

SHOWN_FROM = 3  # jobs in all: of one or two at a time there is no backlog


class Drain:
    """Counts since the queue was last empty."""

    def __init__(self) -> None:
        self._ended = 0

    def after_one(self, waiting: int) -> str:
        """Count one more ended job; waiting: queued and running ones. `12/120`, or "" where there is no backlog."""
        self._ended += 1
        shown = f"{self._ended}/{self._ended + waiting}" if self._ended + waiting >= SHOWN_FROM else ""
        if waiting == 0:
            self._ended = 0
        return shown
