"""Named places where a test may kill or stop the daemon. Without CKPTWATCH_FAILPOINT in the environment: nothing.

CKPTWATCH_FAILPOINT=name:kill9[:count] ends the process at the count-th time that place is reached.
"""

from __future__ import annotations

import os
import signal

_wanted, _action, _left = "", "", 0


def arm(text: str) -> None:
    """Set the place, as the environment variable would; an empty text disarms."""
    global _wanted, _action, _left
    _wanted, _, rest = text.partition(":")
    _action, _, count = rest.partition(":")
    _left = int(count or 1)


def failpoint(name: str) -> None:
    """Mark a place; ends the process here when the environment says so."""
    global _left
    if name != _wanted:
        return
    _left -= 1
    if _left == 0 and _action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("CKPTWATCH_FAILPOINT", ""))
