"""The heap of this process: memory that was freed goes back to the kernel. Measures nothing."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1  # of glibc's malloc.h
_TRIM_BYTES = 64 << 10


def return_freed_memory() -> None:
    """From now on glibc returns free memory at the end of the heap once it is 64 KiB. Without glibc nothing happens.

    By itself it raises that limit with the largest block that was freed, and keeps several megabytes for good.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
