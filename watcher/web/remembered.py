"""Answers of the database that a page keeps while the database's files have not changed. Never asks a query itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

KEPT_S = 60.0  # asked again after this even if nothing seems to have changed
T = TypeVar("T")


class Remembered:
    """Safe to use from several threads. stamp: changes when the files were written; "" where that cannot be known."""

    def __init__(self, stamp: Callable[[], str]) -> None:
        self._stamp = stamp
        self._lock = threading.Lock()
        self._of = ""
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, ask: Callable[[], T]) -> T:
        """What `ask` answered since the files were last written. The answer is shared: never change it."""
        stamp = self._stamp()  # before asking: a write in between makes the answer too new, never too old
        with self._lock:
            if stamp != self._of:
                self._of, self._kept = stamp, {}
            known = self._kept.get(key) if stamp else None
        if known is not None and time.monotonic() - known[0] < KEPT_S:
            return known[1]
        answer = ask()
        with self._lock:
            if stamp == self._of:
                self._kept[key] = (time.monotonic(), answer)
        return answer
