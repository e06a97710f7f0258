"""When `run` ends by itself: after one pass, after an idle time, or with the training process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watcher.errors import UsageError


def end_of_run(once: bool, until: str | None) -> Callable[[Any], bool]:
    """The condition that Daemon.run asks after each tick. Raises UsageError.

    until: `idle:SECONDS` without a new checkpoint in any run, counted from the newest registered one or the start;
    evaluations that last longer than that are waited for. `pid:PID`: that process is gone, and a scan came after it.
    """
    if once:
        return lambda daemon: daemon.settled_down()
    if until is None:
        return lambda daemon: False
    what, _, number = until.partition(":")
    if what not in ("idle", "pid") or not (number.isascii() and number.isdigit()):
        raise UsageError(
            f"--until {until}: neither idle:SECONDS nor pid:PID", hint="--until idle:600, --until pid:4711"
        )
    if what == "idle":
        return lambda daemon: daemon.idle_s() >= int(number) and daemon.settled_down()
    ended_s: list[float] = []

    def training_ended(daemon: Any) -> bool:
        if not has_ended(number):
            return False
        if not ended_s:  # one more scan, after the last write
            ended_s.append(time.monotonic())
            daemon.scan_soon()
        return daemon.scanned_since(ended_s[0]) and daemon.settled_down()

    return training_ended


def has_ended(pid: str) -> bool:
    """Is the process gone, or a zombie that its parent (a notebook, say) has not waited for?"""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in ("Z", "X")
