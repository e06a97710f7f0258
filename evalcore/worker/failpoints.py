"""Named places where a fault test may stop a worker: CKPTWATCH_WORKER_FAILPOINT=name:action, several with commas.

names: after_started, after_load, read_ahead, mid_eval, mid_sample, before_outcome, after_outcome. actions: kill9,
hang, exit1, raise, oom, sleepN (seconds). `name@R:action` is for rank R alone; without it, rank 0. Does nothing
without the variable.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "CKPTWATCH_WORKER_FAILPOINT"


def failpoint(name: str, rank: int = 0) -> None:
    """Act as the environment variable asks for this place; nothing without it."""
    for entry in os.environ.get(VARIABLE, "").split(","):
        place, _, action = entry.partition(":")
        place, _, wanted = place.partition("@")
        if place == name and int(wanted or 0) == rank:
            _act(action)


def _act(action: str) -> None:
    if action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exit1":
        os._exit(1)
    elif action == "hang":
        threading.Event().wait()
    elif action.startswith("sleep"):
        threading.Event().wait(float(action[len("sleep") :]))
    elif action == "oom":
        raise MemoryError("failpoint")
    elif action == "raise":
        raise RuntimeError("failpoint")
    else:
        raise ValueError(f"{VARIABLE}: unknown action {action!r}")
