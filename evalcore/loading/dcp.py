"""A DCP folder as a model ready to evaluate: each slice is read with its CRC straight into the live model.

Keeps one slice in memory per reading thread beside the model. Writes nothing, and joins no process group.
"""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from evalcore.archive.container.dcp import Part, Slice
from evalcore.archive.container.records import read_records
from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.meaning.dcp_folder import DcpFolder
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.pickle.values import StorageRef, TensorRef
from evalcore.archive.reading import understand_dcp
from evalcore.archive.summary import summary_of
from evalcore.loading.content import ContentDigest
from evalcore.loading.reading import Opened, OpenOptions, bytes_needed, counted, loadable_state, without_checksums
from evalcore.loading.weights import Box, Passed, ZipRecords, bytes_of, view_of
from evalcore.models.plan import CheckpointError


@dataclass
class DcpRecords:
    """The tensors of a DCP folder; a storage's key is the tensor's full name.

    require_zip: refuse a slice that has no CRC. unverified: whether such a slice was read.
    """

    folder: DcpFolder
    passed: Passed
    content: ContentDigest
    require_zip: bool
    unverified: bool = False
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def boxes(self, storage: StorageRef) -> Iterator[tuple[Box, Tensor]]:
        """Each part of the tensor: where it belongs, and its values in the file's dtype."""
        tensor = self.folder.index.tensors[storage.key]
        for part in tensor.parts:
            box = tuple(slice(at, at + size) for at, size in zip(part.offsets, part.sizes, strict=True))
            yield box, self._values(storage.key, tensor.dtype, part)

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        """The whole tensor, contiguous."""
        tensor = self.folder.index.tensors[storage.key]
        dtype: torch.dtype = getattr(torch, tensor.dtype)
        whole = torch.frombuffer(buffer, dtype=dtype).view(tensor.shape)
        for box, values in self.boxes(storage):
            whole[box] = values

    def check(self, wanted: Callable[[str], bool]) -> int:
        index = self.folder.index
        slices = [p.slice for name, tensor in index.tensors.items() if wanted(name) for p in tensor.parts]
        slices += [part for name, part in index.objects.items() if wanted(name)]
        return sum(map(self._check, slices))

    def _check(self, part: Slice) -> int:
        with self._opening:
            file = self.folder.window(part)
        directory = self.folder.slice_payload(part, file).directory
        if directory is None:
            return 0
        every = [(entry, None) for entry in directory.entries.values()]
        return read_records(file, directory, every, progress=self.passed)

    def _values(self, name: str, dtype: str, part: Part) -> Tensor:
        with self._opening:
            file = self.folder.window(part.slice)
        payload = self.folder.slice_payload(part.slice, file)
        value, directory = payload.root, payload.directory
        if directory is None or not isinstance(value, TensorRef):
            what = value.class_name if hasattr(value, "class_name") else type(value).__name__
            raise ArchiveError("unsupported", f"a slice of {shown(name)} is no plain tensor: {shown(what)}")
        if (value.shape, value.dtype) != (part.sizes, dtype):
            described = f"{dtype} {list(part.sizes)}"
            reason = f"a slice of {shown(name)} holds {value.dtype} {list(value.shape)}, not {described}"
            raise ArchiveError("shape", reason, "copy or save the checkpoint again")
        self.unverified |= directory.unverified
        if self.require_zip and directory.unverified:
            raise without_checksums(shown(part.slice.file), "zip")
        raw = torch.empty(value.storage.size_bytes, dtype=torch.uint8)
        try:
            ZipRecords(file, directory, self.passed).read(value.storage, bytes_of(raw))
        except ArchiveError as error:
            raise ArchiveError(error.kind, f"{shown(part.slice.file)}: {error.reason}", error.hint) from None
        self.content.add(f"{name}:{','.join(map(str, part.offsets))}", bytes_of(raw))
        return view_of(raw, value)


def open_dcp(path: str, options: OpenOptions) -> Opened:
    """Understand a DCP folder. Raises CheckpointError, ArchiveError, OSError."""
    folder, spec = DcpFolder(path), options.spec
    try:
        if options.expect_digest not in (None, folder.payload.digest):
            raise CheckpointError("superseded", "the folder holds another version than when it was registered")
        if folder.refusal is not None:
            raise folder.refusal
        _allow_open_files(len({part.file for part in folder.index.slices()}))
        reading = understand_dcp(folder, wanted=spec.state, settings=spec.config)
        state = loadable_state(reading, spec)
        passed = counted(options.report, bytes_needed(state) if options.verify == "model" else folder.size_bytes)
        content = _content_of(state, options.wants_content)
        records = DcpRecords(folder, passed, content, options.require_zip)
        summary = replace(summary_of(folder.metadata, reading), size_bytes=folder.size_bytes)
        notes = partial(_late_notes, records)
        return Opened(reading, summary, state, records, content, lambda: folder.files, folder.rewritten, notes)
    except BaseException:
        folder.close()
        raise


def _late_notes(records: DcpRecords) -> list[str]:
    return [*records.folder.notes, *(["unverified: the slices carry no checksums"] * records.unverified)]


def _content_of(state: State, wanted: bool) -> ContentDigest:
    """Begins with the names and shapes, as a file's begins with its pickle."""
    content = ContentDigest(wanted)
    described = [[name, ref.dtype, list(ref.shape)] for name, ref in sorted(state.tensors.items())]
    content.add("index", json.dumps(described).encode())
    return content


def _allow_open_files(files: int) -> None:
    """Raise the soft limit of open files where it is too low: every rank wrote one, and all stay open until the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 256
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else hard, hard))
