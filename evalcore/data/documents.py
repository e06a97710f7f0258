"""Documents of text, JSON-lines, JSON-array, Parquet and Arrow files, read in blocks.

Owns decoding. A document is a whole text file, a JSON string, or the text field of a JSON object; blank ones are left
out. Never tokenises.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from evalcore.compressed import NoZstandard, open_zstandard
from evalcore.data.arrow import arrow_texts
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError
from evalcore.data.parquet import parquet_texts
from evalcore.json_lines import of_object

_BLOCK_CHARS = 1 << 20
_ARRAY_BYTES = 512 << 20
#: names of the one field of several that is a document's text
_USUAL = ("content", "body", "document", "story", "article", "raw_content")


class Meter:
    """Bytes of the files read so far, as on disk (compressed where they are)."""

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
    texts = {"json": _array, "parquet": _table, "arrow": _arrow}.get(file.kind, _lines)
    for text in texts(file.path, text_field, meter):
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
                f"{path} is not UTF-8 text ({error.reason})",
                f"convert it, for example: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt",
            ) from None


def _is_blank(path: Path) -> bool:
    return all(not block.strip() for block in _blocks(path, Meter()))  # stops at the first block that has any text


def _lines(path: Path, text_field: str, meter: Meter) -> Iterator[str]:
    with meter.over(path) as raw, _decoded(path, raw) as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _field(f"{path} line {number}", json.loads(line), text_field)
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            raise DataError(f"{path} line {number or 1} is not JSON: {error}", "one JSON object per line") from None
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} cannot be read past line {number}: {error}", "copy the file again") from None


def _table(path: Path, text_field: str, meter: Meter) -> Iterator[str]:
    with meter.over(path) as raw:
        yield from parquet_texts(path, raw, text_field)


def _arrow(path: Path, text_field: str, meter: Meter) -> Iterator[str]:
    with meter.over(path):
        yield from arrow_texts(path, text_field)


def _array(path: Path, text_field: str, meter: Meter) -> Iterator[str]:
    """A JSON array is read whole: its texts cannot be found without parsing what stands before them."""
    if path.stat().st_size > _ARRAY_BYTES:
        raise DataError(f"{path} is a JSON array of more than {_ARRAY_BYTES >> 20} MiB", "write it as .jsonl")
    with meter.over(path) as raw:
        try:
            rows = json.loads(raw.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON: {error}", "write it again, or as .jsonl") from None
    if not isinstance(rows, list):
        raise DataError(f"{path} is a JSON {type(rows).__name__}, not an array of documents", "write it as .jsonl")
    for number, row in enumerate(rows, 1):
        yield _field(f"{path} element {number}", row, text_field)


def _field(where: str, row: Any, text_field: str) -> str:
    if isinstance(row, str):
        return row
    if isinstance(row, dict) and isinstance(row.get(text_field), str):
        return row[text_field]
    if _are_ids(row) or (isinstance(row, dict) and any(map(_are_ids, row.values()))):
        raise DataError(
            f"{where} holds token ids, not text", "save them as one array: numpy.save('val.npy', ids.astype('uint32'))"
        )
    if isinstance(row, dict) and (command := of_object(where.rsplit(" line ", 1)[0], row)) is not None:
        raise DataError(f"{where} holds columns or rows in one object, not a document", command)
    if not isinstance(row, dict):
        raise DataError(f"{where} is a JSON {type(row).__name__}, not a text", "one string or object for each document")
    if text_field in row:
        what = "null" if row[text_field] is None else f"a JSON {type(row[text_field]).__name__}"
        raise DataError(f"{where}: its field {text_field!r} is {what}, not a text", "leave out or correct that line")
    texts = [name for name, value in row.items() if isinstance(value, str)]
    raise DataError(
        f"{where} has no text in field {text_field!r} (it has: {', '.join(map(str, row))[:100]})",
        _remedy([name for name in texts if name in _USUAL] or texts, row),
    )


def _remedy(texts: list[str], row: dict[str, Any]) -> str:
    """What to do for a row whose field is not there. texts: fields that may hold its text."""
    joined = "write them as .jsonl with one field `text`, as the trainer joins them"
    if len(texts) == 1:
        return f"give --text-field {texts[0]} (`text_field` in the settings)"
    if any(isinstance(value, list) and value and isinstance(value[0], dict) for value in row.values()):
        return f"its texts are turns of a conversation: {joined} by its chat template"
    if texts:
        return (
            f"the text may be one of {', '.join(texts[:5])}: give --text-field with it (`text_field`); or, where a"
            f" document is made of several, {joined}"
        )
    return "write its texts as .jsonl with the field `text`"


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value[:100])


def _decoded(path: Path, raw: IO[bytes]) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(raw, "rt", encoding="utf-8-sig", newline="\n")
    if path.name.lower().endswith(".zst"):
        try:
            return io.TextIOWrapper(open_zstandard(raw), encoding="utf-8-sig", newline="\n")
        except NoZstandard:
            hint = "in a clone of ckptwatch: pip install '.[zstd]', or decompress it"
            raise DataError(f"{path} needs the zstandard library", hint) from None
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")
