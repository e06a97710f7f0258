"""Waiting for a condition: the only way a test waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], within_s: float = 30.0, why: str = "") -> Any:
    """The condition's first true value. Fails the test when it does not come."""
    pause, deadline_s = threading.Event(), time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, why or f"not within {within_s:.0f} s"
        pause.wait(0.02)
    return value
