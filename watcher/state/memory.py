"""The heap of this process: one for all threads; memory that was freed goes back to the kernel. Measures nothing."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # of glibc's malloc.h
_TRIM_BYTES = 64 << 10


def keep_the_heap_small() -> None:
    """From now on glibc returns free memory at the end of the heap once it is 64 KiB; threads start no heap.

    Without glibc nothing happens. By itself it raises that limit with the largest block that was freed, and keeps
    several megabytes for good. A heap per thread serves threads that allocate at the same time, which Python's lock
    seldom lets them do; it costs 2 MB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_ARENA_MAX, 1)
