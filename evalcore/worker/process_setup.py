"""A worker dies with the process that started it, leaves no core dump, shares the CPU, and ends on a cancel file.

Owns the first acts of a worker: this module imports no torch, so that they come before seconds of imports.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
CANCEL_POLL_S = 0.5


def die_with_parent() -> None:
    """SIGKILL for this process when its parent's thread ends; ends at once if the parent is gone already."""
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent died between the two calls: its signal will not come any more
        os._exit(1)


def share_the_cpu() -> None:
    """Threads that wait sleep instead of spinning; must come before torch is imported.

    Beside a busy trainer a spinning thread steals the very time that the thread it waits for needs: a tiny model on two
    contended cores took 2.3 CPU-seconds instead of 13.4, and 2.7 s instead of 24 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Large blocks that are freed stay with the process (glibc): every pass needs them again, zeroed by the kernel.

    Saves most of the system time of an evaluation on CPU and leaves the peak as it is. Only for our own
    processes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


@contextmanager
def uncollected() -> Iterator[None]:
    """Imports make objects that stay: the cyclic collector visits them neither meanwhile nor later nor at the end.

    Saves a seventh of the time of `import torch` and of the exit after it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)


def leave_no_core() -> None:
    """No core dump: a worker's memory is a model."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_on(cancel: Path) -> None:
    """End this process, whatever it is doing, soon after the cancel file appears. No outcome is written."""

    def watch() -> None:
        never = threading.Event()
        while not never.wait(CANCEL_POLL_S):
            if cancel.exists():
                os._exit(0)

    threading.Thread(target=watch, name="cancel", daemon=True).start()
