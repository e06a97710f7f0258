"""Opening a checkpoint without ever blocking or touching it: regular files only, plain positioned reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from types import TracebackType

from evalcore.archive.errors import LIMITS, ArchiveError, shown

Source = str | bytes | os.PathLike | int
ReportBytes = Callable[[int, int], None]  # bytes done, bytes in all: where a whole file is read

_NAMES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class OpenFile:
    """A regular file open for reading; closes its descriptor only where it opened it.

    The path is looked at before it is opened, for opening a device can have effects, and O_NONBLOCK keeps a pipe
    that takes its place in between from blocking.
    """

    def __init__(self, source: Source, report: ReportBytes = lambda done, total: None) -> None:
        self.report = report
        self.path: str | None = None
        self.owned = not isinstance(source, int)
        if isinstance(source, int):
            self.fd = source
            _demand_regular(os.fstat(source), f"descriptor {source}")
        else:
            self.path = os.fsdecode(source)
            self.fd = _open(self.path)
        self.status = os.fstat(self.fd)
        self.start = 0  # where byte 0 of this object stands in the file: more in a Window only
        self.size = self.status.st_size
        if self.size > LIMITS.file_bytes:
            self.close()
            raise ArchiveError("unsupported", f"the file has {self.size} bytes, more than {LIMITS.file_bytes}")

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, or fewer where the file ends. Raises ArchiveError `corrupt` where reading fails."""
        parts = []
        while length > 0:
            try:
                part = os.pread(self.fd, min(length, 1 << 24), self.start + offset)
            except OSError as error:
                raise ArchiveError("corrupt", f"reading failed at byte {offset}: {error.strerror}") from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_rewritten(self) -> bool:
        """Whether the open file's size or modification time are others than when it was opened."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns)

    def close(self) -> None:
        if self.owned and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Window(OpenFile):
    """A part of an open file, read as if it were a file of its own. It never closes the descriptor."""

    def __init__(self, file: OpenFile, start: int, length: int) -> None:
        self.report, self.path, self.owned = file.report, file.path, False
        self.fd, self.status, self.start, self.size = file.fd, file.status, start, length

    def read(self, offset: int, length: int) -> bytes:
        return super().read(offset, max(min(length, self.size - offset), 0))


def _open(path: str) -> int:
    _demand_regular(os.stat(path), shown(path, 200))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _demand_regular(os.fstat(fd), shown(path, 200))
    except ArchiveError:
        os.close(fd)
        raise
    return fd


def _demand_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    what = next((words for test, words in _NAMES if test(status.st_mode)), "not a regular file")
    raise ArchiveError("unsupported", f"{name} is {what}, not a checkpoint file")
