"""Documents of text and JSON-lines files, read in blocks.

Owns decoding. A document is a whole text file, or one line's field; blank ones are left out. Never tokenises.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from evalcore.data.errors import DataError
from evalcore.data.formats import DataFile

_BLOCK_CHARS = 1 << 20


class Meter:
    """How far into the files reading has come: bytes as they lie on disk, compressed ones too."""

    def __init__(self) -> None:
        self._before = 0
        self._file: IO[bytes] | None = None

    @contextlib.contextmanager
    def over(self, path: Path) -> Iterator[IO[bytes]]:
        """The file, opened; its position counts as long as it is open, its size afterwards."""
        with open(path, "rb") as file:
            self._file, size = file, os.fstat(file.fileno()).st_size
            try:
                yield file
            finally:
                self._before, self._file = self._before + size, None

    @property
    def bytes_read(self) -> int:
        return self._before + (self._file.tell() if self._file is not None else 0)


def documents(file: DataFile, text_field: str, meter: Meter) -> Iterator[Iterator[str]]:
    """Yield each document as an iterator over blocks of its text; it must be used up before the next one."""
    if file.kind == "text":
        if not _is_blank(file.path):
            yield _blocks(file.path, meter)
        return
    for text in _lines(file.path, text_field, meter):
        if text.strip():
            yield iter((text,))


def _blocks(path: Path, meter: Meter) -> Iterator[str]:
    # newline="": the bytes as they are; translated line ends would change the count of bytes
    with meter.over(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        try:
            while block := file.read(_BLOCK_CHARS):
                yield block
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8 text ({error.reason})", "convert it, for example with iconv"
            ) from None


def _is_blank(path: Path) -> bool:
    return all(not block.strip() for block in _blocks(path, Meter()))  # stops at the first block that has any text


def _lines(path: Path, text_field: str, meter: Meter) -> Iterator[str]:
    with meter.over(path) as raw, _decoded(path, raw) as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _field(path, number, json.loads(line), text_field)
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            raise DataError(f"{path} line {number or 1} is not JSON: {error}", "one JSON object per line") from None
        except (EOFError, OSError) as error:
            raise DataError(f"{path} cannot be read past line {number}: {error}", "copy the file again") from None


def _field(path: Path, number: int, row: Any, text_field: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
        known = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise DataError(
            f"{path} line {number} has no text in field {text_field!r} (it has: {known[:100]})", "say text_field"
        )
    return row[text_field]


def _decoded(path: Path, raw: IO[bytes]) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(raw, "rt", encoding="utf-8", newline="\n")
    if path.name.endswith(".zst"):
        try:
            import zstandard
        except ImportError:
            raise DataError(f"{path} needs the zstandard library", "pip install zstandard, or decompress it") from None
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), encoding="utf-8", newline="\n")
    return io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
