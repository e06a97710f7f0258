"""Named places where a test may kill or stop the daemon. Without CKPTWATCH_FAILPOINT in the environment: nothing.

CKPTWATCH_FAILPOINT=name:kill9[:count] ends the process at the count-th arrival at that place.
"""

from __future__ import annotations

import os
import signal

_wanted, _, _rest = os.environ.get("CKPTWATCH_FAILPOINT", "").partition(":")
_action, _, _count = _rest.partition(":")
_left = int(_count or 1)


def reach(name: str) -> None:
    """Mark a place; ends the process here when the environment says so."""
    global _left
    if name != _wanted:
        return
    _left -= 1
    if _left == 0 and _action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
