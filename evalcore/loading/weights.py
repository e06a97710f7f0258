"""From records to parameters: reads the storages that a model needs and fills its tensors. Plain reads, no mmap.

Owns dtype conversion and views; decides nothing about families. Two threads, since reading, CRC and copying all
release the interpreter lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from evalcore.archive.container.directory import Directory
from evalcore.archive.container.records import read_records
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.payload import Payload
from evalcore.archive.pickle.values import StorageRef, TensorRef
from evalcore.loading.content import ContentDigest

_THREADS = 2
Box = tuple[slice, ...]  # a part of a tensor, as an index
Passed = Callable[[int], None] | None  # called from either thread with the bytes of each piece that was read


@dataclass(frozen=True)
class Target:
    """One parameter and where its values stand. transposed: the file holds the matrix the other way round."""

    ref: TensorRef
    parameter: Tensor
    transposed: bool = False


class Records(Protocol):
    """Where storages come from."""

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        """Fill the buffer with the storage's bytes. Raises ArchiveError."""

    def check(self, wanted: Callable[[str], bool]) -> int:
        """Verify the records whose storage key is wanted; return the bytes read. Raises ArchiveError."""


@runtime_checkable
class PartedRecords(Records, Protocol):
    """Storages whose tensor is kept in parts (DCP), so that one part is in memory at a time."""

    def boxes(self, storage: StorageRef) -> Iterator[tuple[Box, Tensor]]:
        """Each part of the one tensor in the storage: where it belongs, and its values. Raises ArchiveError."""


@dataclass(frozen=True)
class ZipRecords:
    file: OpenFile
    directory: Directory
    passed: Passed = None
    content: ContentDigest | None = None

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        entry = self.directory.entries.get(f"data/{storage.key}")
        if entry is None:
            raise ArchiveError("corrupt", f"the record data/{shown(storage.key)} is missing")
        read_records(self.file, self.directory, [(entry, buffer)], progress=self.passed)
        if self.content is not None:
            self.content.add(f"data/{storage.key}", buffer)

    def check(self, wanted: Callable[[str], bool]) -> int:
        entries = [e for name, e in self.directory.entries.items() if wanted(name.removeprefix("data/"))]
        return read_records(self.file, self.directory, [(entry, None) for entry in entries], progress=self.passed)


@dataclass(frozen=True)
class RangeRecords:
    """Storages at known places of files without checksums (legacy, safetensors). key -> (file, offset, bytes)."""

    ranges: dict[str, tuple[OpenFile, int, int]]
    passed: Passed = None
    content: ContentDigest | None = None

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        place = self.ranges.get(storage.key)
        if place is None:
            raise ArchiveError("corrupt", f"the storage {shown(storage.key)} is missing")
        file, at, size = place
        if size != buffer.nbytes:
            raise ArchiveError("shape", f"storage {shown(storage.key)} has {size} bytes, not {buffer.nbytes}")
        done = 0
        while done < size:
            try:
                got = os.preadv(file.fd, [buffer[done : done + (8 << 20)]], at + done)
            except OSError as error:
                raise ArchiveError("corrupt", f"reading failed at byte {at + done}: {error.strerror}") from error
            if got == 0:
                raise ArchiveError("corrupt", f"storage {shown(storage.key)} is cut off")
            done += got
            if self.passed is not None:
                self.passed(got)
        if self.content is not None:
            self.content.add(f"data/{storage.key}", buffer)

    def check(self, wanted: Callable[[str], bool]) -> int:
        return 0


def records_of(
    file: OpenFile, payload: Payload, passed: Passed = None, content: ContentDigest | None = None
) -> Records:
    """The storages of a payload: records of its archive, or ranges of a legacy file."""
    if payload.directory is not None:
        return ZipRecords(file, payload.directory, passed, content)
    offsets = payload.legacy.offsets if payload.legacy is not None else {}
    return RangeRecords({key: (file, at, size) for key, (at, size) in offsets.items()}, passed, content)


def fill(records: Records, targets: Iterable[Target]) -> int:
    """Fill every target from its storage, each storage read once; return the bytes read. Raises ArchiveError."""
    groups: dict[str, list[Target]] = {}
    for target in targets:
        if target.ref.numel:
            groups.setdefault(target.ref.storage.key, []).append(target)
    failed = threading.Event()

    def fill_group(group: list[Target]) -> int:
        if failed.is_set():
            return 0
        try:
            return _fill_group(records, group)
        except BaseException:
            failed.set()
            raise

    ordered = sorted(groups.values(), key=lambda group: -group[0].ref.storage.size_bytes)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="read") as pool:
        return sum(pool.map(fill_group, ordered))


def read_tensors(records: Records, state: dict[str, TensorRef]) -> tuple[dict[str, Tensor], int]:
    """Every tensor of the state dict in the file's own dtype, views of one storage sharing memory; and bytes read."""
    storages: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    total = 0
    for name, ref in state.items():
        if ref.storage.key not in storages:
            storages[ref.storage.key] = raw = torch.empty(ref.storage.size_bytes, dtype=torch.uint8)
            if raw.numel():
                records.read(ref.storage, bytes_of(raw))
            total += raw.numel()
        tensors[name] = view_of(storages[ref.storage.key], ref)
    return tensors, total


def bytes_of(raw: Tensor) -> memoryview:
    """The memory of a uint8 tensor, writable."""
    return memoryview(raw.numpy())  # type: ignore[arg-type]


def view_of(raw: Tensor, ref: TensorRef) -> Tensor:
    """The tensor that `ref` describes, as a view of its storage's bytes; a copy where it is negated or conjugated."""
    dtype: torch.dtype = getattr(torch, ref.dtype)
    whole = raw[: raw.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    values = torch.as_strided(whole, ref.shape, ref.stride, ref.offset)
    if ref.conjugate:
        values = values.conj_physical()
    return values.neg() if ref.negative else values


def _fill_group(records: Records, group: list[Target]) -> int:
    storage = group[0].ref.storage
    if isinstance(records, PartedRecords) and all(_is_whole(target.ref) for target in group):
        for box, values in records.boxes(storage):
            with torch.no_grad():
                for target in group:
                    (target.parameter.t() if target.transposed else target.parameter)[box].copy_(values)
        return storage.size_bytes
    if len(group) == 1 and _is_direct(group[0]):
        flat = group[0].parameter.detach().view(-1).view(torch.uint8)
        records.read(storage, bytes_of(flat))
        return storage.size_bytes
    raw = torch.empty(storage.size_bytes, dtype=torch.uint8)
    records.read(storage, bytes_of(raw))
    with torch.no_grad():
        for target in group:
            values = view_of(raw, target.ref)
            target.parameter.copy_(values.t() if target.transposed else values)
    return storage.size_bytes


def _is_whole(ref: TensorRef) -> bool:
    return ref.contiguous and ref.offset == 0 and ref.size_bytes == ref.storage.size_bytes


def _is_direct(target: Target) -> bool:
    """Whether the record is the parameter's memory byte for byte, so that it is read straight into it."""
    ref, parameter = target.ref, target.parameter
    return (
        not (target.transposed or ref.negative or ref.conjugate)
        and ref.dtype == "float32"
        and parameter.dtype == torch.float32
        and parameter.device.type == "cpu"
        and parameter.is_contiguous()
        and ref.contiguous
        and ref.offset == 0
        and ref.storage.size_bytes == ref.size_bytes
    )
