"""Answers of the database that a page keeps while the database's files have not changed. Never asks a query itself."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

KEPT_S = 60.0  # asked again after this even if nothing seems to have changed
T = TypeVar("T")


class Remembered:
    """Safe to use from several threads. stamp: changes when the files were written; "" where that cannot be known.

    Of each key one answer is kept, so keys are few and fixed. Answers are shared: never change one.
    """

    def __init__(self, stamp: Callable[[], str]) -> None:
        self._stamp = stamp
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._kept: dict[str, tuple[str, float, Any]] = {}

    def get(self, key: str, ask: Callable[[], T]) -> T:
        """What `ask` answered since the files were last written. Of several threads one asks, the others wait."""
        answer, fresh = self.last(key)
        if fresh:
            return answer
        with self._asking[key]:
            answer, fresh = self.last(key)
            if not fresh:
                stamp = self._stamp()  # before asking: a write in between makes the answer too new, never too old
                answer = ask()
                self._kept[key] = (stamp, time.monotonic(), answer)
        return answer

    def last(self, key: str) -> tuple[Any, bool]:
        """(the last answer, None where there was none; whether it still holds). Asks nothing."""
        stamp, at_s, answer = self._kept.get(key, ("", 0.0, None))
        return answer, bool(stamp) and stamp == self._stamp() and time.monotonic() - at_s < KEPT_S
