"""A wait that a signal handler or another thread ends. Owns no reason: who waits looks at the facts again."""

from __future__ import annotations

import queue


class Wake:
    """Like threading.Event, and safe in a signal handler.

    Event.set takes a lock that is not reentrant: a handler that runs while its own thread holds it, in `wait` or
    `clear`, waits for itself for ever. SimpleQueue is reentrant by its documentation.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        if self._calls.empty():  # one is enough; a race leaves two, which `clear` takes
            self._calls.put(None)

    def clear(self) -> None:
        while not self._calls.empty():
            try:
                self._calls.get_nowait()
            except queue.Empty:
                return

    def wait(self, timeout_s: float) -> bool:
        """True if `set` was called since the last `clear` or `wait`, or is called within timeout_s."""
        try:
            self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return False
        return True
