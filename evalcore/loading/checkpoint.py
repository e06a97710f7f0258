"""A checkpoint, file or folder, as a model ready to evaluate: the entry point of this package.

Owns the choice between file and folder, and the kinds of its errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from evalcore.archive.container.source import ReportBytes, Source
from evalcore.archive.errors import ArchiveError
from evalcore.archive.meaning.dcp_folder import index_folder
from evalcore.archive.meaning.folder_kinds import kind_at
from evalcore.loading.checkpoint_file import open_file, open_folder_of_one_file
from evalcore.loading.dcp import open_dcp
from evalcore.loading.folders import open_hf_folder
from evalcore.loading.mean import OpenedMember, mean_of
from evalcore.loading.model import LoadedModel, still_same
from evalcore.loading.reading import LoadOptions, Opened, OpenOptions, load_opened
from evalcore.messages import ModelSpec
from evalcore.models.plan import CheckpointError

__all__ = ["CheckpointError", "LoadedModel", "load_checkpoint", "still_same"]


@torch.inference_mode(False)  # ordinary tensors always: the reading threads have a mode of their own
def load_checkpoint(
    source: Source,
    *,
    spec: ModelSpec | None = None,
    device: str = "cpu",
    verify: str = "model",
    require_zip: bool = False,
    reuse: LoadedModel | None = None,
    expect_digest: str | None = None,
    expect_size_bytes: int | None = None,
    path: str | None = None,
    report: ReportBytes | None = None,
    linear_dtype: torch.dtype = torch.float32,
    wants_content: bool = True,
) -> LoadedModel:
    """Load the model of one checkpoint file or folder.

    The arguments are those of OpenOptions and LoadOptions.
    Raises CheckpointError (corrupt, unsafe, unsupported, shape, superseded), OSError where the file cannot be opened.
    """
    spec = spec or ModelSpec()
    options = OpenOptions(spec, verify, require_zip, expect_digest, expect_size_bytes, path, report, wants_content)
    with _as_checkpoint_errors(source if expect_digest is not None else None):
        opened = open_checkpoint(source, options)
        return load_opened(opened, LoadOptions(spec, device, verify, reuse, linear_dtype))


@torch.inference_mode(False)
def load_mean(members: Sequence[OpenedMember], options: LoadOptions) -> LoadedModel:
    """Load the weighted mean of opened checkpoints, the newest first.

    The members are closed where that fails. Raises CheckpointError.
    """
    try:
        with _as_checkpoint_errors():
            return load_opened(mean_of(members, options.spec), options)
    except BaseException:
        for member in members:
            member.opened.close()
        raise


def is_hugging_face(source: Source) -> bool:
    """Whether the source is a folder whose weights are in no DCP folder and in more than one file, or have a config."""
    if isinstance(source, int) or not os.path.isdir(source) or index_folder(os.fsdecode(source)) is not None:
        return False
    kind = kind_at(os.fsdecode(source))
    return kind is None or not kind.main


def open_checkpoint(source: Source, options: OpenOptions) -> Opened:
    """Understand a file or a folder of any kind. Raises CheckpointError, OSError."""
    with _as_checkpoint_errors(source if options.expect_digest is not None else None):
        if isinstance(source, int) or not os.path.isdir(source):
            return open_file(source, options)
        folder = os.fsdecode(source)
        if is_hugging_face(folder):
            return open_hf_folder(folder, options)
        return (
            open_dcp(folder, options) if index_folder(folder) is not None else open_folder_of_one_file(folder, options)
        )


@contextmanager
def _as_checkpoint_errors(registered: Source | None = None) -> Iterator[None]:
    """registered: a checkpoint that was complete before: what a folder lacks now is gone."""
    try:
        yield
    except ArchiveError as error:
        if registered is not None and not isinstance(registered, int) and _lost_files(os.fsdecode(registered), error):
            raise CheckpointError("vanished", f"files of the folder are gone: {error.reason}") from error
        raise CheckpointError(error.kind, error.reason, error.hint) from error
    except RecursionError as error:
        raise CheckpointError("corrupt", "the file nests too deep") from error


def _lost_files(path: str, error: ArchiveError) -> bool:
    """Whether it is a folder, complete when it was registered, that lacks files now: its trainer deletes it."""
    return os.path.isdir(path) and (error.incomplete or kind_at(path) is None)
