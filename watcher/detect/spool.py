"""The spool: copies of settled files that the trainer may overwrite or delete before they are evaluated.

Copies, never links: a hard link would touch the trainer's file. Where the file system can, the copy shares its blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from evalcore.archive import ArchiveError, ReportBytes, kind_at, probe, summarise

_FICLONE = 0x40049409
KEEPS_AFTER = 3  # checkpoints that stayed where they were: then the trainer is taken to keep its files
CHUNK_BYTES = 1 << 26
DESCRIBING = (".json", ".yaml", ".yml", ".txt", ".model")  # tokenizer, configuration, the trainer's step
SMALL_BYTES = 64 << 20


class NotPinned(Exception):
    """No copy was made; the message is the reason."""


@dataclass
class Spool:
    """A folder of pinned copies, at most max_bytes together."""

    folder: Path
    max_bytes: int

    def used_bytes(self) -> int:
        return sum(
            os.stat(os.path.join(at, name)).st_blocks * 512 for at, _, names in os.walk(self.folder) for name in names
        )

    def pin(
        self, source: str, version: str, digest: str, size_bytes: int, report: ReportBytes = lambda done, total: None
    ) -> Path:
        """Copy `source`, a file or a recognised folder, and check that the copy has that digest. Raises NotPinned.

        version: names the copy: every registered version has its own, whatever digest its directory claims.
        report: bytes copied, or read again, and bytes in all.
        """
        is_folder = os.path.isdir(source)
        target = self.folder / (version if is_folder else f"{version}{os.path.splitext(source)[1] or '.pt'}")
        if target.exists():
            return target
        if (used := self.used_bytes()) + size_bytes > self.max_bytes:
            raise NotPinned(f"store.spool_max_bytes ({self.max_bytes}) leaves no room beside {used} bytes of copies")
        unfinished = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            if is_folder:
                _copy_folder(source, unfinished, size_bytes, report)
            else:
                _copy(source, unfinished, size_bytes, report)
            if _digest(os.fspath(unfinished), report) != digest:
                raise NotPinned("it changed while it was copied")
            os.replace(unfinished, target)
        except FileNotFoundError as error:
            gone = "it was deleted" if str(error.filename).startswith(source) else f"{error.filename} is gone"
            raise NotPinned(f"{gone} before it was copied") from None
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "")
            raise NotPinned(f"copying it to {self.folder} failed: {name} {error.strerror}") from None
        except ArchiveError as error:
            raise NotPinned(f"it changed while it was copied: {error.reason}") from None
        finally:
            _remove(unfinished)
        return target

    def release(self, path: Path) -> None:
        _remove(path)

    def locate(self, recorded: str) -> Path | None:
        """The copy that was recorded under this path: there, or in this folder where database and state were moved."""
        return next((path for path in (Path(recorded), self.folder / Path(recorded).name) if path.exists()), None)

    def sweep(self, in_use: set[str]) -> None:
        """Remove what no unfinished job needs: leftovers of a daemon that died. in_use: recorded paths."""
        names = {Path(recorded).name for recorded in in_use}
        for entry in os.scandir(self.folder):
            if entry.name not in names:
                _remove(Path(entry.path))


def should_pin(policy: str, *, rotates: bool, overwritten: bool, kept: int) -> bool:
    """`auto` copies until the trainer is seen to keep its files; overwritten paths and rotating folders for good.

    rotates: a registered file of the run vanished or changed. overwritten: this path had another version before.
    kept: registered files that still stand as they were.
    """
    if policy != "auto":
        return policy == "always"
    return rotates or overwritten or kept < KEEPS_AFTER


def _digest(path: str, report: ReportBytes) -> str:
    """What `summarise` gives; of a file with checksums without its pickle being read."""
    return summarise(path, report=report).digest if os.path.isdir(path) else probe(path, report).digest


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _copy_folder(source: str, target: Path, size_bytes: int, report: ReportBytes) -> None:
    """The files that make up the version, and the small ones that describe it; never an optimizer's state."""
    kind = kind_at(source)
    if kind is None:
        raise NotPinned("it was deleted before it was copied")
    small = [name for name in os.listdir(source) if name.endswith(DESCRIBING) and name not in kind.members]
    small = [name for name in small if os.path.getsize(os.path.join(source, name)) <= SMALL_BYTES]
    done = 0

    def report_part(read: int, _: int) -> None:
        report(done + read, size_bytes)

    for name in (*kind.members, *small):
        part, original = target / name, os.path.join(source, name)
        part.parent.mkdir(parents=True, exist_ok=True)
        size = os.path.getsize(original)
        _copy(original, part, size, report_part)
        done += size


def _copy(source: str, target: Path, size_bytes: int, report: ReportBytes) -> None:
    """Shared blocks, else a copy within the kernel, else (across most file systems) through memory."""
    with open(source, "rb", buffering=0) as reading, open(target, "xb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
            return
        except OSError:
            pass  # the file system cannot share blocks, or it is another one
        done = 0
        try:
            while done <= size_bytes and (n := os.copy_file_range(reading.fileno(), writing.fileno(), CHUNK_BYTES)):
                done += n
                report(done, size_bytes)
        except OSError:
            pass  # EXDEV, ENOSYS, EINVAL, EOPNOTSUPP, EPERM: a true I/O error comes again below
        reading.seek(done)
        writing.seek(done)
        while done <= size_bytes and (chunk := reading.read(CHUNK_BYTES >> 4)):
            writing.write(chunk)
            done += len(chunk)
            report(done, size_bytes)
        if done > size_bytes:
            raise NotPinned("it grew while it was copied")
