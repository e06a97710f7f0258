"""Megatron's indexed data sets: ids in a `.bin`, their type, sequences and documents in the `.idx` beside it.

Layout: NVIDIA/Megatron-LM megatron/core/datasets/indexed_dataset.py. Sequences are read in the order of the index,
which is that of the file; an index that says otherwise is refused. Reads no ids.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from evalcore.archive.signatures import MEGATRON_INDEX
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError

_HEADER = struct.Struct("<QBQQ")  # version, code of the type, sequences, entries of the list of documents
_HEADER_BYTES = len(MEGATRON_INDEX) + _HEADER.size
_DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}
_AGAIN = "copy both files again, or write them again with Megatron's preprocess_data.py"


def read_megatron(path: Path, size: int, index: Path) -> DataFile:
    """The `.bin` of this size as its index describes it. Raises DataError where the two do not agree."""
    try:
        dtype, lengths, _ = _read(index)
    except DataError as error:
        raise DataError(f"{path} is a Megatron data set, and {error.reason}", error.hint) from None
    n_tokens = int(lengths.sum())
    if size != n_tokens * dtype.itemsize:
        state = "cut off" if size < n_tokens * dtype.itemsize else "longer than its index says"
        reason = f"{path} is {state}: {index.name} describes {n_tokens} tokens of {dtype}, and it has {size} bytes"
        raise DataError(reason, _AGAIN)
    return DataFile(path, "megatron", f"Megatron data set, {dtype}", dtype, 0, n_tokens, index=index)


def document_starts(index: Path) -> np.ndarray:
    """int64: the position of the first token of each document that has any."""
    _, lengths, documents = _read(index)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    starts = ends[documents]
    return np.unique(starts[starts < ends[-1]])


def _read(index: Path) -> tuple[np.dtype, np.ndarray, np.ndarray]:
    """(type of the ids, tokens of each sequence, the first sequence of each document and the end)."""
    try:
        data = index.read_bytes()
    except OSError as error:
        raise DataError(f"{index} cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) < _HEADER_BYTES or not data.startswith(MEGATRON_INDEX):
        raise DataError(f"{index} is no whole index of a Megatron data set: it has {len(data)} bytes", _AGAIN)
    version, code, sequences, documents = _HEADER.unpack_from(data, len(MEGATRON_INDEX))
    if version != 1 or code not in _DTYPES:
        raise DataError(f"{index} is of version {version}, type code {code}, which is not read", _AGAIN)
    dtype = np.dtype(_DTYPES[code]).newbyteorder("<")
    if dtype.kind == "f":
        raise DataError(f"{index} says that the data are {dtype}, not token ids", "name a data set of token ids")
    described = _HEADER_BYTES + 12 * sequences + 8 * documents
    if len(data) == described + sequences:
        raise DataError(f"{index} is of a multimodal data set, which is not read", "name a data set of text alone")
    if len(data) != described:
        raise DataError(f"{index} is damaged: it has {len(data)} bytes, and describes {described}", _AGAIN)
    lengths = np.frombuffer(data, "<i4", sequences, _HEADER_BYTES)
    pointers = np.frombuffer(data, "<i8", sequences, _HEADER_BYTES + 4 * sequences)
    firsts = np.frombuffer(data, "<i8", documents, _HEADER_BYTES + 12 * sequences)
    in_order = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1] * dtype.itemsize
    if (lengths < 0).any() or not np.array_equal(pointers, in_order):
        raise DataError(f"{index} places sequences elsewhere than one after the other", _AGAIN)
    whole = documents and firsts[0] == 0 and firsts[-1] == sequences and (np.diff(firsts) >= 0).all()
    if not whole:
        raise DataError(f"{index} names documents that are not in it", _AGAIN)
    return dtype, lengths, firsts
