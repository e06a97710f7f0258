"""One stat of one path: the fingerprint of a regular file, or why the name is none.

Never opens a file, never lists a folder, and never decides whether a file is ready.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass

from watcher.domain.checkpoint import HUGGING_FACE_FILES, Fingerprint, printable, stored

_INT64 = (1 << 63) - 1


@dataclass(frozen=True)
class Irregular:
    """A matching name that is no regular file of its own. alias: a link to another file that is watched itself."""

    reason: str
    alias: bool = False


def look(root: str, path: str, watched: Callable[[str], bool]) -> Fingerprint | Irregular | None:
    """One stat of `path` below `root`; None where there is nothing. Raises OSError for anything but absence.

    watched: whether a path relative to `root` is a checkpoint's name, asked of a link's target.
    """
    full = os.path.join(root, path)
    try:
        status = os.lstat(full)
    except FileNotFoundError:
        return None
    return observation_of(root, path, status, watched)


def observation_of(
    root: str, path: str, status: os.stat_result, watched: Callable[[str], bool]
) -> Fingerprint | Irregular:
    """What an lstat says. Raises OSError."""
    if stat.S_ISLNK(status.st_mode):
        return _link(root, path, watched)
    return fingerprint(status) if stat.S_ISREG(status.st_mode) else Irregular(_kind_of(status.st_mode))


def fingerprint(status: os.stat_result) -> Fingerprint:
    """The five numbers, folded into what a database can keep (some file systems use all 64 bits)."""
    if status.st_ino <= _INT64 and status.st_dev <= _INT64 and abs(status.st_mtime_ns) <= _INT64:
        return Fingerprint(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, min(status.st_ctime_ns, _INT64)
        )
    return Fingerprint(
        status.st_dev & _INT64,
        status.st_ino & _INT64,
        status.st_size,
        max(-_INT64, min(status.st_mtime_ns, _INT64)),
        max(-_INT64, min(status.st_ctime_ns, _INT64)),
    )


def version_key(path: str, observed: Fingerprint | Irregular) -> int:
    """A number that stands for this version of this path; 100,000 of them are a few megabytes."""
    if isinstance(observed, Fingerprint):
        return hash((stored(path), *observed[1:]))
    return hash((stored(path), observed.reason))


def is_hugging_face(folder: str, name: str, *, in_folder: bool) -> bool:
    """Is this entry such a checkpoint's weights (counted once where they are sharded), or a folder that holds them?

    in_folder: also look one level into folders that are named as the trainer of transformers names them.
    """
    if name in HUGGING_FACE_FILES:
        return True
    if not in_folder or not name.startswith("checkpoint-"):
        return False
    return any(os.path.exists(os.path.join(folder, name, file)) for file in HUGGING_FACE_FILES)


def _link(root: str, path: str, watched: Callable[[str], bool]) -> Irregular:
    """A link is never evaluated itself: either its target is watched under its own name, or the reason is given."""
    link = os.path.join(root, path)
    try:
        status = os.stat(link)
    except FileNotFoundError:
        return Irregular("a link whose target does not exist")
    except OSError as error:
        return Irregular(f"a link that cannot be followed: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Irregular(f"a link to {_kind_of(status.st_mode)}")
    target, inside = os.path.realpath(link), os.path.realpath(root)
    remedy = f"`ckptwatch eval {shlex.quote(printable(link))}` evaluates it"
    if not target.startswith(inside + os.sep):
        return Irregular(f"a link to a file outside the watched folder; {remedy}")
    below = os.path.relpath(target, inside)
    if watched(below):
        return Irregular("a link to a watched file of the same folder", alias=True)
    return Irregular(f"a link to {printable(below)}, which `include` does not match; {remedy}")


def _kind_of(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return name
    return "not a regular file"
