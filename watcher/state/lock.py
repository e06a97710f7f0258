"""One writer for one database: a lock in the state folder, and one on the database file itself.

The kernel releases both when their holder ends. The state folder's lock file names the holder and its state folder.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.errors import LockHeld

if TYPE_CHECKING:
    from watcher.domain.health import LockFacts

DAEMON = "run"
#: The byte of the database file that is locked: far beyond SQLite's own lock bytes (at 1 GiB) and any data.
DATABASE_LOCK_BYTE = 1 << 62


@dataclass(frozen=True)
class Holder:
    """What the holder of a state folder's lock wrote into it. verb: `run` is the daemon, which reads the inbox."""

    pid: int | None
    state_dir: Path | None = None
    verb: str = DAEMON

    def __str__(self) -> str:
        who = "daemon" if self.verb == DAEMON else f"`ckptwatch {self.verb}`"
        return f"{who}, pid {self.pid or 'unknown'}"


class Lock:
    """An flock on a file. Held from `take` to `release` or the end of the process; never inherited by jobs."""

    def __init__(self, path: Path, state_dir: Path | None = None, verb: str = DAEMON) -> None:
        self.path = path
        self.state_dir = state_dir or path.parent
        self.verb = verb
        self._fd: int | None = None

    def take(self) -> None:
        """Raises LockHeld, naming the holder, without waiting."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LockHeld(self.path, str(holder(self.path))) from None
        os.ftruncate(fd, 0)
        lines = (str(os.getpid()).encode(), os.fsencode(self.state_dir.absolute()), self.verb.encode(), b"")
        os.pwrite(fd, b"\n".join(lines), 0)
        self._fd = fd

    def is_intact(self) -> bool:
        """Is the file that we hold still the one under its name? False after someone removed or replaced it."""
        return self._fd is not None and _is_named(self._fd, self.path)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class DatabaseLock:
    """An open-file-description lock on one byte of the SQLite file: the same file under another path is locked too.

    Closing any descriptor of the file drops the locks that SQLite holds in this process, so `release` must come after
    the last connection is closed, and nothing else here may open the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._fd: int | None = None

    def take(self) -> None:
        """Raises LockHeld. Does nothing where the file is missing or read-only: opening the database reports that."""
        try:
            fd = os.open(self.file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, DATABASE_LOCK_BYTE, 1, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except BlockingIOError:
            os.close(fd)
            raise LockHeld(
                self.file,
                "which uses another path or state folder",
                hint="use the same --db path and settings as that process; `fuser FILE` names it",
            ) from None
        except OSError:  # a file system without such locks: the state folder's lock has to do
            os.close(fd)
            return
        self._fd = fd

    def covers(self) -> bool:
        """Is the lock on the file that now has the name? A database made by rename is another file."""
        return self._fd is not None and _is_named(self._fd, self.file)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _is_named(fd: int, path: Path) -> bool:
    """Is the open file the one that the path names now?"""
    try:
        own, named = os.fstat(fd), os.stat(path)
    except OSError:
        return False
    return (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)


def lock_facts(path: Path, now_s: float) -> LockFacts:
    """The lock as another process sees it; looking changes nothing. now_s: seconds since the epoch."""
    from watcher.domain.health import LockFacts, LockState  # `results` asks is_held alone, and need not load it

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return LockFacts(LockState.UNREADABLE, os.fspath(path))
    except OSError:
        return LockFacts(LockState.FREE, os.fspath(path))
    try:
        if _is_locked(fd):
            age_s = max(0.0, now_s - os.fstat(fd).st_mtime)
            who = holder(path)
            return LockFacts(LockState.HELD, os.fspath(path), who.pid, age_s, None if who.verb == DAEMON else who.verb)
    finally:
        os.close(fd)
    return LockFacts(LockState.FREE, os.fspath(path))


def is_held(path: Path) -> bool:
    """Whether a process holds the lock. One that may not be looked at counts as free."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(fd)
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    """Ask for a shared lock, which the file's closing gives back."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def holder(path: Path) -> Holder:
    """The last process that took the lock, whether or not it still holds it."""
    try:
        pid, folder, verb = [*path.read_bytes().split(b"\n"), b"", b""][:3]
        return Holder(int(pid), Path(os.fsdecode(folder)) if folder else None, verb.decode() or DAEMON)
    except (OSError, ValueError):
        return Holder(None)
