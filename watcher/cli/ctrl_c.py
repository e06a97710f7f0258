"""Ctrl-C for verbs that refresh until it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from watcher.state.wake import Wake


def pauses() -> Callable[[float], None]:
    """A wait of that number of seconds, in which KeyboardInterrupt is raised if Ctrl-C came then or since the last.

    Raised at once, as Python does by itself, it is lost where it comes in a finaliser. A second Ctrl-C is raised at
    once, so that a question that hangs can be left. Must be called from the main thread.
    """
    pressed: list[bool] = []
    wake = Wake()

    def note(_number: int, _frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        wake.set()

    def pause(seconds: float) -> None:
        if pressed or wake.wait(seconds):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    return pause
