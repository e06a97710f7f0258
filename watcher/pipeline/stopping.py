"""The end of all launches when the daemon stops: they are asked, then killed. Never waits longer than its bounds."""

from __future__ import annotations

import time

from watcher.domain.health import Pause, Paused
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.isolation import Isolation
from watcher.state.signals import Signals

GRACE_S = 10.0
KILL_S = 3.0


def end_launches(dispatch: Dispatch, signals: Signals, isolation: Isolation) -> None:
    """Return when no launch lives, or after GRACE_S + KILL_S. A second signal kills at once."""
    wake, deadline_s = signals.wake, time.monotonic() + GRACE_S
    at_once = signals.stops > 1
    if not at_once:
        dispatch.leave_running()
    dispatch.stop_all(at_once=at_once)
    while dispatch.live and time.monotonic() < deadline_s + KILL_S:
        if (signals.stops > 1 or time.monotonic() > deadline_s) and not at_once:
            at_once = True
            dispatch.stop_all(at_once=True)
        try:
            dispatch.tick(time.monotonic(), Paused(Pause.STOPPING))
        except Exception as error:  # the next start finds the outcome files
            isolation.note("stopping", error, time.monotonic())
        wake.clear()
        wake.wait(0.05)
