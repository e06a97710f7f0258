"""Token files: numpy arrays, llm.c shards, and ids without a header, whose type is never guessed against evidence.

Owns their headers and types. Never maps a file; reads the bytes of one without a header to check its type.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from evalcore.archive.signatures import LLMC_KINDS, LLMC_UINT16, LLMC_UINT32
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError
from evalcore.data.evidence import Evidence, against_uint16
from evalcore.data.foreign import LLMC_FOREIGN
from evalcore.data_digest import TOKEN_DTYPES

_LLMC = {LLMC_UINT16: ("uint16", 2), LLMC_UINT32: ("uint32", 4)}
_LLMC_HEADER_BYTES = 1024
_SAMPLE_BYTES = 1 << 20
_SMALL_BYTES = 4096  # of a .bin: too little evidence of its own where train.bin has more


def read_npy(path: Path, size: int) -> DataFile:
    """A file that begins with numpy's magic."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = reader(file)
            offset = file.tell()
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} has a broken .npy header: {error}", "write it again with numpy.save") from None
    if dtype.hasobject or dtype.kind not in "iu":
        raise DataError(f"{path} holds {dtype}, not token ids", "save integers, best uint16 or uint32")
    if len(shape) not in (1, 2) or (by_columns and len(shape) == 2 and min(shape) > 1):
        how = "stored by columns" if len(shape) == 2 else "not one or two dimensions"
        raise DataError(f"{path} has shape {shape}, {how}", "flatten it: numpy.save(path, array.reshape(-1))")
    n_tokens = int(np.prod(shape, dtype=np.int64))
    if size < offset + n_tokens * dtype.itemsize:
        raise DataError(f"{path} is cut off: its header promises {n_tokens} tokens", "copy it again")
    if size > offset + n_tokens * dtype.itemsize:
        reason = f"{path} goes on after the {n_tokens} tokens of its header, as several arrays in one file do"
        raise DataError(reason, "join them: numpy.save(path, numpy.concatenate(arrays))")
    if len(shape) == 1:
        return DataFile(path, "npy", f"numpy array, {dtype}", dtype, offset, n_tokens)
    label = f"numpy array, {dtype}, {shape[0]} rows of {shape[1]} tokens"
    return DataFile(path, "npy", label, dtype, offset, n_tokens, shape[1])


def read_bin(path: Path, size: int, head: bytes, token_dtype: str | None) -> DataFile:
    """An llm.c shard by its header; without one, ids of token_dtype, by default uint16."""
    if len(head) >= 12:
        magic, version, n_tokens = struct.unpack("<iii", head[:12])
        if magic in LLMC_FOREIGN and token_dtype is None and size > _LLMC_HEADER_BYTES:
            name, advice = LLMC_KINDS[magic], LLMC_FOREIGN[magic]
            raise DataError(f"{path} is {name}, not a token stream", advice)
        if magic in _LLMC and (version in (1, 7) or size == _LLMC_HEADER_BYTES + _LLMC[magic][1] * n_tokens):
            return _llmc(path, size, magic, n_tokens)
    if token_dtype is not None:
        return read_raw(path, size, token_dtype)
    _refuse_other_than_uint16(path, size)
    return DataFile(path, "bin", "token ids without header, uint16", np.dtype("<u2"), 0, size // 2)


def _refuse_other_than_uint16(path: Path, size: int) -> None:
    """Raise DataError where the bytes of a header-less file, or of train.bin beside a small one, are not uint16 ids."""
    sibling = path.with_name("train.bin")
    files = [(path, size)]
    if size < _SMALL_BYTES and sibling != path and sibling.is_file():
        files.append((sibling, sibling.stat().st_size))
    for file, file_size in files:
        try:
            evidence = against_uint16(file, file_size)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
        if evidence is None:
            continue
        if file is sibling and evidence.token_dtype is None:
            continue  # another kind of file: nothing follows for this one
        whose = "" if file is path else f" in {file.name} beside it"
        if evidence.token_dtype is not None:
            remedy = f"give --token-dtype {evidence.token_dtype}"
        elif "text" in evidence.reason:
            remedy = "give --format text with --tokenizer, or name it .txt"
        elif "header" in evidence.reason:
            remedy = "write its ids without that header, best with numpy.save"
        elif "saved as floating-point" in evidence.reason:
            remedy = "write them again as whole numbers: ids.astype('uint16').tofile(...)"
        else:
            remedy = "write it again as little-endian uint16 or uint32"
        if size % 2 == 0:  # an odd number of bytes is no uint16, whatever is declared
            remedy += "; if it really is uint16: --token-dtype uint16 (`token_dtype` in the settings)"
        raise DataError(f"{path} has no header and is probably not uint16: {evidence.reason}{whose}", remedy)


def _llmc(path: Path, size: int, magic: int, n_tokens: int) -> DataFile:
    dtype, width = _LLMC[magic]
    if size != _LLMC_HEADER_BYTES + width * n_tokens:
        raise DataError(
            f"{path} is cut off or padded: its header promises {n_tokens} tokens of {dtype}", "copy it again"
        )
    return DataFile(
        path, "bin", f"llm.c tokens, {dtype}", np.dtype(dtype).newbyteorder("<"), _LLMC_HEADER_BYTES, n_tokens
    )


def read_raw(path: Path, size: int, token_dtype: str | None) -> DataFile:
    """Ids without a header, of the type given; without one, refused with the type that the bytes suggest."""
    if token_dtype is None:
        evidence = against_uint16(path, size)
        likely = f"{evidence.reason}, so " if evidence is not None and evidence.token_dtype else ""
        dtype = (evidence.token_dtype if evidence is not None else None) or "uint16"
        raise DataError(
            f"{path} has no header that names its token type",
            f"give the type with which it was written; {likely}probably --token-dtype {dtype} (`token_dtype`)",
        )
    if token_dtype not in TOKEN_DTYPES:
        raise DataError(f"token_dtype {token_dtype!r} is not known", f"use one of {', '.join(TOKEN_DTYPES)}")
    numpy_dtype = np.dtype(token_dtype).newbyteorder("<")
    if size % numpy_dtype.itemsize:
        raise DataError(f"{path} has {size} bytes, no whole number of {token_dtype} tokens", "check --token-dtype")
    label = f"token ids without header, {token_dtype}"
    notes = _doubts(path, size, numpy_dtype)
    return DataFile(path, "raw", label, numpy_dtype, 0, size // numpy_dtype.itemsize, notes=notes)


def _doubts(path: Path, size: int, declared: np.dtype) -> tuple[str, ...]:
    """A note where the bytes look like ids of more bytes than declared: read so, zeros would stand between them."""
    if declared.itemsize == 8:
        return ()
    likely = _wider_than_bytes(path) if declared.itemsize == 1 else against_uint16(path, size)
    wide = likely.token_dtype if likely is not None else None
    if likely is None or wide is None or np.dtype(wide).itemsize <= declared.itemsize:
        return ()
    doubt = f"read as {8 * declared.itemsize}-bit ids as given, but {likely.reason}: probably --token-dtype {wide}"
    return (doubt,)


def _wider_than_bytes(path: Path) -> Evidence | None:
    """Evidence that single-byte ids are in fact 16-bit or wider ones: every second byte is zero."""
    block = np.fromfile(path, dtype=np.uint8, count=_SAMPLE_BYTES)
    block = block[: len(block) // 8 * 8].reshape(-1, 8)
    zero = (block == 0).all(axis=0)
    if not len(block) or zero[0] or not zero[[1, 3, 5, 7]].all():
        return None
    if zero[1:].all():
        return Evidence("int64", "seven bytes of eight are zero")
    if zero[[1, 2, 3, 5, 6, 7]].all():
        return Evidence("uint32", "three bytes of four are zero")
    return Evidence("uint16", "every second byte is zero")
