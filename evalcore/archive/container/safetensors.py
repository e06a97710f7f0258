"""The header of a safetensors file as tensor references: 8 bytes of length, a JSON object, then the bytes.

Read with plain reads, as everything here: a mapped file that is truncated kills its reader. Reads no tensor.
"""

from __future__ import annotations

import json
from typing import Any

from evalcore.archive.container.legacy import Legacy
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.machine import Pickled
from evalcore.archive.pickle.values import ITEM_BYTES, StorageRef, TensorRef

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
}  # fmt: skip


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether the file begins with a header length that fits in it and a JSON object."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size


def read_safetensors(file: OpenFile) -> Legacy:
    """A safetensors file alone, as a state dict. Raises ArchiveError."""
    tensors, ranges = read_header(file, "")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    pickled = Pickled(tensors, {}, len(tensors), storages, file.size)
    return Legacy(pickled, {key: (at, size) for key, (_, at, size) in ranges.items()}, "safetensors")


def read_header(file: OpenFile, prefix: str) -> tuple[dict[str, TensorRef], dict[str, tuple[OpenFile, int, int]]]:
    """(name -> tensor, storage key -> (file, offset, bytes)); keys begin with `prefix`. Raises ArchiveError."""
    length = int.from_bytes(file.read(0, 8), "little")
    if file.size < 8 or length + 8 > file.size:
        raise ArchiveError("corrupt", "the safetensors file is cut off", incomplete=True)
    if length > LIMITS.header_bytes:
        raise ArchiveError("unsupported", f"the safetensors header has {length} bytes")
    header = _header(file.read(8, length))
    tensors: dict[str, TensorRef] = {}
    ranges: dict[str, tuple[OpenFile, int, int]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], at = _tensor(name, entry, f"{prefix}{name}", 8 + length)
            ranges[f"{prefix}{name}"] = (file, at, tensors[name].storage.size_bytes)
    _demand_no_gaps([(at, size) for _, at, size in ranges.values()], 8 + length, file.size)
    return tensors, ranges


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise ArchiveError("corrupt", "the safetensors header is damaged") from None
    if not isinstance(header, dict) or len(header) > LIMITS.entries:
        raise ArchiveError("corrupt", "the safetensors header is damaged")
    for name in header:
        if len(name) > LIMITS.name_chars or not name.isprintable():
            raise ArchiveError("unsupported", f"a tensor's name is too long or cannot be printed: {shown(name)}")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's later key would replace the earlier one; the format forbids both."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice")
    return mapping


def _demand_no_gaps(places: list[tuple[int, int]], start: int, size_bytes: int) -> None:
    """The tensors follow one another from the header to the end of the file, as the format demands."""
    end = start
    for at, size in sorted(places):
        if at != end:
            raise ArchiveError("corrupt", "the safetensors file has a gap or an overlap between its tensors")
        end = at + size
    if end > size_bytes:
        raise ArchiveError("corrupt", "the safetensors file is cut off", incomplete=True)
    if end != size_bytes:
        raise ArchiveError("corrupt", "the safetensors file is longer than its header says")


def _tensor(name: str, entry: Any, key: str, base: int) -> tuple[TensorRef, int]:
    try:
        label, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ArchiveError("corrupt", f"the safetensors entry {shown(name)} is damaged") from None
    dtype = _DTYPES.get(label) if isinstance(label, str) else None
    if dtype is None:
        raise ArchiveError("unsupported", f"the safetensors entry {shown(name)} has a dtype that is not read here")
    if len(shape) > 64 or any(type(n) is not int or not 0 <= n < 1 << 63 for n in (*shape, begin, end)):
        raise ArchiveError("corrupt", f"the safetensors entry {shown(name)} is damaged")
    stride: list[int] = []
    step = 1
    for size in reversed(shape):
        stride.insert(0, step)
        step *= size
    if step * ITEM_BYTES[dtype] != end - begin:
        raise ArchiveError("shape", f"the safetensors entry {shown(name)} has another size than its shape")
    return TensorRef(StorageRef(key, dtype, end - begin), dtype, 0, shape, tuple(stride)), base + begin
