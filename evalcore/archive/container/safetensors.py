"""The header of a safetensors file as tensor references: 8 bytes of length, a JSON object, then the bytes.

Read with plain reads, as everything here: a mapped file that is truncated kills its reader. Reads no tensor.
"""

from __future__ import annotations

import json
from typing import Any

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.values import ITEM_BYTES, StorageRef, TensorRef

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def read_header(file: OpenFile, prefix: str) -> tuple[dict[str, TensorRef], dict[str, tuple[OpenFile, int, int]]]:
    """(name -> tensor, storage key -> (file, offset, bytes)); keys begin with `prefix`. Raises ArchiveError."""
    length = int.from_bytes(file.read(0, 8), "little")
    if file.size < 8 or length + 8 > file.size:
        raise ArchiveError("corrupt", "the safetensors file is cut off", incomplete=True)
    if length > LIMITS.header_bytes:
        raise ArchiveError("unsupported", f"the safetensors header has {length} bytes")
    try:
        header = json.loads(file.read(8, length))
    except (ValueError, RecursionError):
        raise ArchiveError("corrupt", "the safetensors header is damaged") from None
    if not isinstance(header, dict) or len(header) > LIMITS.entries:
        raise ArchiveError("corrupt", "the safetensors header is damaged")
    tensors: dict[str, TensorRef] = {}
    ranges: dict[str, tuple[OpenFile, int, int]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], at = _tensor(name, entry, f"{prefix}{name}", 8 + length)
            ranges[f"{prefix}{name}"] = (file, at, tensors[name].storage.size_bytes)
    end = max((at + size for _, at, size in ranges.values()), default=8 + length)
    if end > file.size:
        raise ArchiveError("corrupt", "the safetensors file is cut off", incomplete=True)
    if end != file.size:
        raise ArchiveError("corrupt", "the safetensors file is longer than its header says")
    return tensors, ranges


def _tensor(name: str, entry: Any, key: str, base: int) -> tuple[TensorRef, int]:
    try:
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ArchiveError("corrupt", f"the safetensors entry {shown(name)} is damaged") from None
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
