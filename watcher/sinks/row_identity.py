"""Which row of a file is which result: several databases may export into one file, and their ids coincide."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watcher.sinks.protocol import Row

#: What only one result of one database has: the id, what is unique in `results`, and when it was evaluated.
IDENTITY = ("id", "run", "checkpoint", "checkpoint_digest", "eval_set", "eval_digest", "evaluated_at")
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF)
Identity = tuple[Any, ...]


def identity(row: Row, as_written: Callable[[Any], Any] = lambda value: value) -> Identity:
    """as_written: how the file writes a cell. Raises KeyError for a row of another program."""
    return tuple(as_written(row[key]) for key in IDENTITY)


def ids_by_identity(rows: Sequence[Row], as_written: Callable[[Any], Any] = lambda value: value) -> dict[Identity, int]:
    return {identity(row, as_written): row["id"] for row in rows}


@contextmanager
def exclusive(descriptor: int) -> Iterator[None]:
    """One writer at a time, of whatever daemon. A file system without locks has none: there, one daemon per file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    yield  # closing the file releases the lock


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """For a file that is replaced by rename, where a lock on the file itself would be left behind."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with exclusive(descriptor):
            yield
    finally:
        os.close(descriptor)
