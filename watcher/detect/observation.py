"""One look at one path: the fingerprint of a regular file or a recognised folder, or why the name is neither.

Never opens a file, and never decides whether one is ready.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass

from watcher.detect.folder import folder_at
from watcher.domain.checkpoint import Fingerprint, NamePattern, looks_like_a_checkpoint, printable, stored

_INT64 = (1 << 63) - 1


@dataclass(frozen=True)
class Irregular:
    """A matching name that is neither a regular file nor a recognised folder of its own.

    alias: a link to another one that is watched itself.
    """

    reason: str
    alias: bool = False


A_FOLDER = Irregular("a folder")


def look(root: str, path: str, pattern: NamePattern) -> Fingerprint | Irregular | None:
    """One look at `path` below `root`; None where there is nothing, or a folder that is no checkpoint (any more).

    Raises OSError for anything but absence.
    """
    full = os.path.join(root, path)
    try:
        status = os.lstat(full)
    except FileNotFoundError:
        return None
    observed = observation_of(root, path, status, pattern)
    return None if observed == A_FOLDER and not looks_like_a_checkpoint(path) else observed


def observation_of(root: str, path: str, status: os.stat_result, pattern: NamePattern) -> Fingerprint | Irregular:
    """What an lstat says, and of a folder its entries. Raises OSError."""
    if stat.S_ISLNK(status.st_mode):
        return _link(root, path, pattern)
    if stat.S_ISDIR(status.st_mode) and (seen := folder_at(os.path.join(root, path))) is not None:
        return seen.fingerprint
    return fingerprint(status) if stat.S_ISREG(status.st_mode) else Irregular(_kind_of(status.st_mode))


def fingerprint(status: os.stat_result) -> Fingerprint:
    """The five numbers of a stat, each reduced to what a database integer holds (some file systems use all 64 bits)."""
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


def fingerprint_at(path: str) -> Fingerprint:
    """Of a file, or of a folder that a user gave as a checkpoint; links are followed. Raises OSError."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode) and (seen := folder_at(path, chosen=True)) is not None:
        return seen.fingerprint
    return fingerprint(status)


def version_key(path: str, observed: Fingerprint | Irregular) -> int:
    """A number that stands for this version of this path; 100,000 of them are a few megabytes."""
    if isinstance(observed, Fingerprint):
        return hash((stored(path), *observed[1:]))
    return hash((stored(path), observed.reason))


def _link(root: str, path: str, pattern: NamePattern) -> Irregular:
    """A link is never evaluated itself: either its target is watched under its own name, or the reason is given."""
    link = os.path.join(root, path)
    try:
        status = os.stat(link)
    except FileNotFoundError:
        return Irregular("a link whose target does not exist")
    except OSError as error:
        return Irregular(f"a link that cannot be followed: {error.strerror}")
    is_folder = stat.S_ISDIR(status.st_mode) and folder_at(link) is not None
    if not is_folder and not stat.S_ISREG(status.st_mode):
        return Irregular(f"a link to {_kind_of(status.st_mode)}")
    target, inside = os.path.realpath(link), os.path.realpath(root)
    remedy = f"`ckptwatch eval {shlex.quote(printable(link))}` evaluates it"
    if not target.startswith(inside + os.sep):
        return Irregular(f"a link to a {'folder' if is_folder else 'file'} outside the watched folder; {remedy}")
    below = os.path.relpath(target, inside)
    if pattern.why_folder_ignored(below) is None if is_folder else pattern.matches(below):
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
