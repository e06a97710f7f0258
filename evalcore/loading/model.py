"""A model that was loaded: the facts that an evaluation needs, and whether its file is unchanged.

Owns the open files until `close`. Reads no weights except to compare them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from evalcore.archive.container.directory import Directory, digest_of_bytes
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError
from evalcore.archive.payload import identify
from evalcore.archive.pickle.values import StorageRef
from evalcore.loading.weights import Records
from evalcore.logged_loss import contradicts_log
from evalcore.models.plan import Plan


@dataclass
class LoadedModel:
    """A model ready to evaluate: eval mode, no gradients. Weights are float32, but for those of
    linear layers where `linear_dtype` said otherwise. It keeps its file open until `close`.

    context_length: the most positions, None where there is no bound. content_digest: of the bytes that were
    read, "" where it was not wanted. read_bytes: bytes of records read and verified.
    notes: what is unusual about the file, for a result's note.
    """

    model: nn.Module
    family: str
    config: dict[str, Any] | None
    context_length: int | None
    vocab_size: int
    parameters: int
    step: int | None
    step_source: str | None
    logged_val_loss: float | None
    tokens_seen: int | None
    notes: list[str]
    digest: str
    content_digest: str
    read_bytes: int
    size_bytes: int = 0
    plan: Plan | None = None
    files: list[OpenFile] = field(default_factory=list)
    records: Records | None = None
    storages: dict[str, StorageRef] = field(default_factory=dict)

    def close(self) -> None:
        """Close the checkpoint's file; the model stays."""
        for file in self.files:
            file.close()

    def contradiction(self, loss: float, stderr: float | None = None, windows: int = 1) -> str | None:
        """A note on a measured loss that is far from the trainer's logged one; None where it is near or not logged.

        stderr: of the loss over this number of windows.
        """
        logged = self.logged_val_loss
        if logged is None or not contradicts_log(loss, logged, stderr, windows, self._trainer_windows()):
            return None
        model = (
            "the factory builds another model" if self.family == "factory" else f"the model is no plain {self.family}"
        )
        return f"the file logs a validation loss of {logged:.4f}; measured is {loss:.4f}: other data, or {model}"

    def _trainer_windows(self) -> float | None:
        """nanoGPT's names of what its validation averages over, where the configuration holds them."""
        eval_iters, batch_size = ((self.config or {}).get(name) for name in ("eval_iters", "batch_size"))
        return eval_iters * batch_size if type(eval_iters) is int and type(batch_size) is int else None

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def still_same(loaded: LoadedModel) -> bool:
    """Whether the file that was loaded still holds what was loaded; asked after an evaluation.

    Replaced or unlinked, its old content stays readable here and is the same. Written in place it is not, unless every
    byte that the model came from is found again.
    """
    for file in loaded.files:
        now, then = os.fstat(file.fd), file.status
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (then.st_size, then.st_mtime_ns, then.st_ctime_ns):
            continue
        if now.st_size != then.st_size:
            return False
        try:
            if len(loaded.files) > 1 or _digest(file) != loaded.digest:
                return False
            if loaded.records is not None:
                loaded.records.check(loaded.storages.__contains__)
        except ArchiveError:
            return False
    return True


def _digest(file: OpenFile) -> str:
    structure = identify(file)
    return structure.digest(file) if isinstance(structure, Directory) else digest_of_bytes(file)
