"""From an open file to its inert payload: which container it is, its pickle read as data, its small tensors' values.

Owns the order of the looks: first bytes, directory, structure, pickle. Decides nothing about models.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evalcore.archive.container.directory import Directory, demand_stored, digest_of_bytes, read_directory
from evalcore.archive.container.legacy import Legacy, looks_legacy, read_legacy
from evalcore.archive.container.llmc import is_llmc, read_llmc
from evalcore.archive.container.records import read_entry
from evalcore.archive.container.safetensors import is_safetensors, read_safetensors
from evalcore.archive.container.source import OpenFile
from evalcore.archive.container.version import demand_readable_version
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.meaning.other_formats import refuse_by_first_bytes, refuse_zip_that_is_no_save
from evalcore.archive.pickle.machine import Pickled, unpickle
from evalcore.archive.pickle.numpy_values import number_of_array
from evalcore.archive.pickle.rebuild import is_custom
from evalcore.archive.pickle.values import InertObject, StorageRef, TensorRef

_SCALAR_CODES = {
    "float64": "<d", "float32": "<f", "float16": "<e", "int64": "<q", "int32": "<i", "int16": "<h",
    "int8": "<b", "uint8": "<B", "bool": "<?", "uint16": "<H", "uint32": "<I", "uint64": "<Q",
}  # fmt: skip


@dataclass
class Payload:
    """One file's content as data. directory is None and legacy is set for the format without zip, and the reverse.

    small: gives the bytes of a small storage where the content is spread over several files (a DCP folder).
    """

    format: str
    root: Any
    names: tuple[str, ...]
    tensors: int
    digest: str
    unverified: bool
    directory: Directory | None = None
    legacy: Legacy | None = None
    small: Callable[[StorageRef], bytes | None] | None = None

    @property
    def custom_names(self) -> list[str]:
        """Classes and functions named in the file that are neither tensors nor plain containers; at most 200."""
        return sorted(shown(name, 120) for name in self.names if is_custom(name))[: LIMITS.listed]

    def scalar(self, file: OpenFile, value: Any) -> Any:
        """The number in a tensor or array of one element, from its record; any other value as it is."""
        if isinstance(value, InertObject):
            number = number_of_array(value)
            return value if number is None else number
        if not isinstance(value, TensorRef) or value.numel != 1:
            return value
        data = self._small_storage(file, value.storage)
        if data is None:
            return value
        at = value.offset * (value.size_bytes // max(value.numel, 1))
        code = _SCALAR_CODES.get(value.dtype)
        if value.dtype == "bfloat16":
            number = struct.unpack("<f", b"\0\0" + data[at : at + 2])[0]
        elif code is not None:
            number = struct.unpack_from(code, data, at)[0]
        else:
            return value
        return -number if value.negative else number

    def _small_storage(self, file: OpenFile, storage: StorageRef) -> bytes | None:
        """The storage's bytes where it has at most 4,096 and as many as described, else None."""
        if self.small is not None:
            return self.small(storage) if storage.size_bytes <= 4096 else None
        if self.directory is not None:
            entry = self.directory.entries.get(f"data/{storage.key}")
            if entry is None or entry.size > 4096 or entry.size != storage.size_bytes:
                return None
            return read_entry(file, self.directory, entry)
        at, size = self.legacy.offsets.get(storage.key, (0, -1)) if self.legacy is not None else (0, -1)
        return file.read(at, size) if size <= 4096 and size == storage.size_bytes else None


def identify(file: OpenFile) -> Directory | Legacy:
    """The file's structure, complete to its last byte, without any record read. Raises ArchiveError."""
    head = file.read(0, 64)
    if not head:
        raise ArchiveError("corrupt", "the file is empty", incomplete=True)
    if len(head) < 4:
        raise ArchiveError("corrupt", f"the file is only {len(head)} byte(s) long", incomplete=True)
    if head.startswith(b"PK\3\4"):
        directory = read_directory(file)
        refuse_zip_that_is_no_save(directory)
        demand_stored(directory)
        return directory
    if head.startswith(b"PK"):
        raise ArchiveError("corrupt", "the file begins like a zip but holds no entry", incomplete=head[:4] == b"PK\5\6")
    refuse_by_first_bytes(head)
    if is_safetensors(head, file.size):
        return read_safetensors(file)
    if is_llmc(head):
        return read_llmc(file)
    if looks_legacy(head):
        return read_legacy(file)
    if not head.strip(b"\0"):
        reason = "the file begins with zeros: it is a hole that was never written, or still being written"
        raise ArchiveError("corrupt", reason, incomplete=True)
    raise ArchiveError("corrupt", "the file is neither a zip nor a pickle: no checkpoint that torch.save wrote")


def read_payload(file: OpenFile) -> Payload:
    """Read everything but tensor records. Raises ArchiveError with its kind."""
    structure = identify(file)
    if isinstance(structure, Legacy):
        pickled, digest = structure.pickled, digest_of_bytes(file)
        names = tuple(pickled.names)
        return Payload(structure.format, pickled.value, names, pickled.tensors, digest, True, legacy=structure)
    pickled = _read_zip_pickle(file, structure)
    digest, names = structure.digest(file), tuple(pickled.names)
    return Payload("zip", pickled.value, names, pickled.tensors, digest, structure.unverified, structure)


def _read_zip_pickle(file: OpenFile, directory: Directory) -> Pickled:
    demand_readable_version(file, directory)
    entry = directory.entries["data.pkl"]
    if entry.size > LIMITS.pickle_bytes:
        raise ArchiveError("unsupported", f"its pickle has {entry.size} bytes, more than {LIMITS.pickle_bytes}")
    try:
        pickled = unpickle(read_entry(file, directory, entry))
    except ArchiveError as error:  # the directory is there, so the writer was done: never "incomplete"
        raise ArchiveError(error.kind, error.reason, error.hint) from None
    for storage in pickled.storages.values():
        record = directory.entries.get(f"data/{storage.key}")
        if record is None:
            raise ArchiveError("corrupt", f"the record data/{shown(storage.key)} is missing")
        if record.size != storage.size_bytes:
            reason = f"record {shown(record.name)} has {record.size} bytes where {storage.size_bytes} are described"
            raise ArchiveError("shape", reason)
    return pickled
