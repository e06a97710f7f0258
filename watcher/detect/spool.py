"""The spool: copies of settled files that the trainer may overwrite or delete before they are evaluated.

Copies, never links: a hard link would touch the trainer's file. Where the file system can, the copy shares its blocks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evalcore.archive import ArchiveError, Report, probe

_FICLONE = 0x40049409
KEEPS_AFTER = 3  # so many checkpoints that stayed where they were speak for a trainer that keeps its files


@dataclass
class Spool:
    """A folder of pinned copies, at most max_bytes together."""

    folder: Path
    max_bytes: int

    def used_bytes(self) -> int:
        return sum(entry.stat().st_blocks * 512 for entry in os.scandir(self.folder) if entry.is_file())

    def pin(self, source: str, digest: str, size_bytes: int, report: Report = lambda done, total: None) -> Path | None:
        """Copy `source` and check that the copy has that digest; None where it does not fit or changed meanwhile.

        report: bytes copied, or read again, and bytes in all.
        """
        target = self.folder / f"{digest.removeprefix('sha256:')[:32]}.pt"
        if target.exists():
            return target
        if self.used_bytes() + size_bytes > self.max_bytes:
            return None
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            _copy(source, unfinished, lambda done: report(done, size_bytes))
            if probe(os.fspath(unfinished), report).digest != digest:
                return None
            os.replace(unfinished, target)
        except (OSError, ArchiveError):
            return None
        finally:
            unfinished.unlink(missing_ok=True)
        return target

    def release(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sweep(self, in_use: set[str]) -> None:
        """Remove what no unfinished job needs: leftovers of a daemon that died."""
        for entry in os.scandir(self.folder):
            if entry.path not in in_use:
                os.unlink(entry.path)


def should_pin(policy: str, *, rotates: bool, overwritten: bool, kept: int) -> bool:
    """`auto` copies until the trainer is seen to keep its files; overwritten paths and rotating folders for good.

    rotates: a registered file of the run vanished or changed. overwritten: this path had another version before.
    kept: registered files that still stand as they were.
    """
    if policy != "auto":
        return policy == "always"
    return rotates or overwritten or kept < KEEPS_AFTER


def _copy(source: str, target: Path, report: Callable[[int], None]) -> None:
    with open(source, "rb") as reading, open(target, "xb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
            return
        except OSError:
            pass  # the file system cannot share blocks, or it is another one
        done = 0
        while copied := os.copy_file_range(reading.fileno(), writing.fileno(), 1 << 26):
            done += copied
            report(done)
