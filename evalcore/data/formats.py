"""What one data file is: text, JSON lines, or token ids with their type and offset.

Owns recognition. Reads a header at most; never tokenises, never maps.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalcore.data.errors import DataError
from evalcore.data.foreign import LLMC_FOREIGN, refuse_folder, refuse_foreign

TEXT_SUFFIXES = (".txt", ".text", ".md", ".csv", ".tsv", ".rst")
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")
TOKEN_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64")
_LLMC = {20240520: ("uint16", 2), 20240801: ("uint32", 4)}
_LLMC_HEADER_BYTES = 1024


@dataclass(frozen=True)
class DataFile:
    """One recognised file. kind: text | jsonl | npy | bin | raw; token kinds have dtype, offset_bytes, n_tokens."""

    path: Path
    kind: str
    label: str
    dtype: np.dtype | None = None
    offset_bytes: int = 0
    n_tokens: int | None = None

    @property
    def is_text(self) -> bool:
        return self.kind in ("text", "jsonl")


def recognise(path: Path, declared: str = "auto", token_dtype: str | None = None) -> DataFile:
    """Say what a file is. `declared` (text, jsonl, npy, bin, raw) overrules what name and first bytes suggest."""
    size, head = _head(path)
    if size == 0:
        raise DataError(f"{path} is empty", "name a file with data in it")
    if declared == "text" or (declared == "auto" and path.name.endswith(TEXT_SUFFIXES)):
        return DataFile(path, "text", "plain text")
    if declared == "jsonl" or (declared == "auto" and path.name.endswith(JSONL_SUFFIXES)):
        return DataFile(path, "jsonl", "JSON lines")
    if declared == "raw":
        return _raw(path, size, token_dtype)
    if head.startswith(b"\x93NUMPY"):
        return _npy(path, size)
    if declared == "auto":
        refuse_foreign(path, head)
    if declared == "bin" or path.suffix == ".bin":
        return _bin(path, size, head, token_dtype)
    if declared == "npy" or path.suffix == ".npy":
        return _raw(path, size, token_dtype)
    if declared != "auto":
        raise DataError(f"format {declared!r} is not known", "use auto, text, jsonl, npy, bin or raw")
    if _looks_like_text(head):
        return DataFile(path, "text", "plain text")
    raise DataError(f"{path} is of no known data format", "say format = text, jsonl, npy, bin, or raw with token_dtype")


def _head(path: Path) -> tuple[int, bytes]:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path of the eval set") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    if stat.S_ISDIR(found.st_mode):
        refuse_folder(path)
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is not a regular file", "name a file on disk")
    try:
        with open(path, "rb") as file:
            return found.st_size, file.read(1024)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None


def _npy(path: Path, size: int) -> DataFile:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(file)
            offset = file.tell()
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} has a broken .npy header: {error}", "write it again with numpy.save") from None
    if dtype.hasobject or dtype.kind not in "iu":
        raise DataError(f"{path} holds {dtype}, not token ids", "save integers, best uint16 or uint32")
    if len(shape) != 1:
        raise DataError(
            f"{path} has shape {shape}, not one dimension", "flatten it: numpy.save(path, array.reshape(-1))"
        )
    if size < offset + shape[0] * dtype.itemsize:
        raise DataError(f"{path} is cut off: its header promises {shape[0]} tokens", "copy it again")
    return DataFile(path, "npy", f"numpy array, {dtype}", dtype, offset, shape[0])


def _bin(path: Path, size: int, head: bytes, token_dtype: str | None) -> DataFile:
    if len(head) >= 12:
        magic, version, n_tokens = struct.unpack("<iii", head[:12])
        if magic in LLMC_FOREIGN and size > _LLMC_HEADER_BYTES:
            name, advice = LLMC_FOREIGN[magic]
            raise DataError(f"{path} is {name}, not a token stream", advice)
        if magic in _LLMC and (version in (1, 7) or size == _LLMC_HEADER_BYTES + _LLMC[magic][1] * n_tokens):
            return _llmc(path, size, magic, n_tokens)
    if token_dtype is not None:
        return _raw(path, size, token_dtype)
    if size % 2:
        raise DataError(f"{path} has an odd number of bytes, so it is no uint16 token file", "say token_dtype")
    return DataFile(path, "bin", "token ids without header, uint16", np.dtype("<u2"), 0, size // 2)


def _llmc(path: Path, size: int, magic: int, n_tokens: int) -> DataFile:
    dtype, width = _LLMC[magic]
    if size != _LLMC_HEADER_BYTES + width * n_tokens:
        raise DataError(
            f"{path} is cut off or padded: its header promises {n_tokens} tokens of {dtype}", "copy it again"
        )
    return DataFile(
        path, "bin", f"llm.c tokens, {dtype}", np.dtype(dtype).newbyteorder("<"), _LLMC_HEADER_BYTES, n_tokens
    )


def _raw(path: Path, size: int, token_dtype: str | None) -> DataFile:
    if token_dtype is None:
        raise DataError(f"{path} has no header that tells its token type", 'say token_dtype, for example "uint16"')
    if token_dtype not in TOKEN_DTYPES:
        raise DataError(f"token_dtype {token_dtype!r} is not known", f"use one of {', '.join(TOKEN_DTYPES)}")
    dtype = np.dtype(token_dtype).newbyteorder("<")
    if size % dtype.itemsize:
        raise DataError(f"{path} has {size} bytes, no whole number of {token_dtype} tokens", "check token_dtype")
    return DataFile(path, "raw", f"token ids without header, {token_dtype}", dtype, 0, size // dtype.itemsize)


def _looks_like_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 4 and len(head) == 1024  # a character cut by the end of what was read
    return True
