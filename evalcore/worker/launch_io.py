"""Rank 0's side of a launch folder: items in, started marks and outcomes out.

Owns every file that a worker reads or writes there. Never measures anything.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from evalcore.launch_folder import LaunchFolder, write_atomically
from evalcore.messages import ContractError, Item, Outcome, from_json, to_json

_POLL_S = 0.2
_BROADCAST_S = 30.0  # a lingering rank 0 broadcasts well within the timeout of the collective that the others wait in


class LaunchFolderIO:
    """Takes items in order of name, each once, and answers each task with one outcome."""

    def __init__(self, folder: LaunchFolder, linger_s: float) -> None:
        self.folder = folder
        self._linger_s = linger_s
        self._lingered_s = 0.0
        self._taken: set[str] = set()
        self._bad: list[str] = []

    def waiting(self) -> list[Path]:
        """Items not yet taken, in order."""
        names = sorted(p.name for p in self.folder.items.glob("[0-9]*.json") if p.name not in self._taken)
        return [self.folder.items / name for name in names]

    def take(self, patience_s: float = 0.0) -> Item | None:
        """The next item, waiting up to patience_s for one."""
        deadline = time.monotonic() + patience_s
        while True:
            for path in self.waiting():
                self._taken.add(path.name)
                if (item := self._read(path)) is not None:
                    return item
            if time.monotonic() >= deadline:
                return None
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))

    def next(self) -> str | None:
        """The next item as JSON; an empty text while still lingering; None at the end, with `closed` written before."""
        patience_s = min(max(self._linger_s - self._lingered_s, 0.0), _BROADCAST_S)
        item = self.take(patience_s)
        self._lingered_s = 0.0 if item else self._lingered_s + patience_s
        if item is None:
            if self._lingered_s < self._linger_s:
                return ""
            write_atomically(self.folder.closed, "")
            item = self.take()  # one that came just before `closed` is still ours
        return None if item is None else to_json(item)

    def peek(self) -> Item | None:
        """The item after this one, if it is there already; it stays in the queue."""
        for path in self.waiting():
            return self._read(path)
        return None

    def peek_all(self) -> list[Item]:
        """Every item that waits; they stay in the queue."""
        return [item for path in self.waiting() if (item := self._read(path)) is not None]

    def start(self, attempt: int) -> None:
        """The mark that charges the attempt."""
        write_atomically(self.folder.started(attempt), f"{os.getpid()} {time.time():.3f}\n")

    def answer(self, outcome: Outcome) -> None:
        write_atomically(self.folder.outcome(outcome.attempt), to_json(outcome))

    def _read(self, path: Path) -> Item | None:
        """A malformed item costs itself only; its attempts stay without an outcome, which the daemon sees."""
        try:
            return from_json(Item, path.read_text(encoding="utf-8", errors="surrogateescape"))
        except (ContractError, OSError, ValueError) as error:
            if path.name not in self._bad:
                self._bad.append(path.name)
                os.write(2, f"ckptwatch worker: item {path.name} is ignored: {error}\n".encode(errors="replace"))
            return None
