"""The files of one launch: their names, and how they are written so that a reader never sees half of one.

Standard library only. Knows nothing of what an outcome means.

A launch folder:

    launch.json            LaunchSpec, written before the worker starts
    items/000001.json      Item: one checkpoint and its attempts; added while the worker runs, in order of name
    started/<attempt>      written by rank 0 when it starts on a task: this is what charges the attempt
    outcomes/<attempt>.json  Outcome of one task: temp name, fsync, rename; the truth about the attempt
    progress.json          Progress, rewritten now and then by rank 0: the daemon's stall clock
    closed                 the worker takes no further items
    cancel                 written by the daemon: end after the current window
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalcore.messages import ContractError, Outcome, from_json

OUTCOME_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class LaunchFolder:
    """All file names of one launch."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "launch.json"

    @property
    def items(self) -> Path:
        return self.root / "items"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def closed(self) -> Path:
        return self.root / "closed"

    @property
    def cancel(self) -> Path:
        return self.root / "cancel"

    @property
    def log(self) -> Path:
        return self.root / "worker.log"

    def item(self, number: int) -> Path:
        return self.items / f"{number:06d}.json"

    def started(self, attempt: int) -> Path:
        return self.root / "started" / str(attempt)

    def outcome(self, attempt: int) -> Path:
        return self.root / "outcomes" / f"{attempt}.json"

    def create(self) -> None:
        for folder in (self.root, self.items, self.root / "started", self.root / "outcomes"):
            folder.mkdir(parents=True, exist_ok=True)


def read_outcome(path: Path) -> Outcome:
    """Read one outcome file. Raises ContractError when it is too large or malformed, FileNotFoundError when absent."""
    if path.stat().st_size > OUTCOME_MAX_BYTES:
        raise ContractError(f"outcome {path} is larger than {OUTCOME_MAX_BYTES} bytes")
    return from_json(Outcome, path.read_text(encoding="utf-8", errors="surrogateescape"))


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write by temp name, fsync, rename, fsync of the folder: the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
