"""A folder that is a checkpoint: recognised by the names in it, with one fingerprint for all files that count.

Opens no file in it. Never decides whether it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from evalcore.archive import FolderKind, holds_state_alone, recognise, version_from
from watcher.domain.checkpoint import Fingerprint

_INT64 = (1 << 63) - 1


@dataclass(frozen=True)
class SeenFolder:
    """One look at a recognised folder."""

    kind: FolderKind
    fingerprint: Fingerprint


def folder_at(path: str, *, chosen: bool = False) -> SeenFolder | None:
    """None where the folder is no checkpoint. chosen: a user gave it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return folder_in(fd, os.path.basename(os.path.abspath(path)), os.listdir(fd), chosen=chosen)
    finally:
        os.close(fd)


def folder_in(fd: int, name: str, names: Collection[str], *, chosen: bool = False) -> SeenFolder | None:
    """The same for an open folder and its entries. Raises OSError."""

    def list_inside(inside: str) -> list[str]:
        try:
            below = os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        except NotADirectoryError:
            return []
        try:
            return os.listdir(below)
        finally:
            os.close(below)

    kind = recognise(name, names, list_inside, chosen=chosen)
    if kind is None:
        return None
    stats = []
    for member in kind.members:
        with suppress(FileNotFoundError):  # deleted since the listing: another version already
            stats.append(os.stat(member, dir_fd=fd))
    return SeenFolder(kind, fingerprint_of(os.fstat(fd), stats))


def is_link_to_checkpoint(entry: os.DirEntry[str], path: str) -> bool:
    """Whether an entry is a link to a folder that is a checkpoint. path: of the entry."""
    try:
        return entry.is_symlink() and entry.is_dir() and folder_at(path) is not None
    except OSError:
        return False  # deleted meanwhile, or unreadable


def lacks_weights(path: str) -> bool:
    """Whether the folder is named after a step and holds an optimizer's state alone."""
    try:
        return folder_at(path) is None and holds_state_alone(os.path.basename(path), os.listdir(path))
    except OSError:
        return False


def fingerprint_of(folder: os.stat_result, members: Sequence[os.stat_result]) -> Fingerprint:
    """The identity of the folder, and size and times of its members."""
    size_bytes, mtime_ns, ctime_ns = version_from(folder, members)
    numbers = (size_bytes, max(-_INT64, min(mtime_ns, _INT64)), max(-_INT64, min(ctime_ns, _INT64)))
    return Fingerprint(folder.st_dev & _INT64, folder.st_ino & _INT64, *numbers)


def size_of_tree(path: str) -> int:
    """Bytes of all files in and below the folder. Raises OSError where one goes meanwhile."""
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(path) for name in names)
