"""One daemon for one database: an flock on the state folder, which the kernel releases with its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from watcher.errors import LockHeld


class Lock:
    """Held from `take` to `release` or the end of the process; never inherited by jobs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self) -> None:
        """Raises LockHeld, naming the holder, without waiting."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LockHeld(self.path, f"pid {holder(self.path) or 'unknown'}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def is_held(path: Path) -> bool:
    """Does a living daemon hold it? Looking takes nothing away from it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def holder(path: Path) -> int | None:
    """The pid that the holder wrote into it."""
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return None
