"""Items of a task as they stand in their file: JSON lines, a JSON array, Parquet, Arrow, or lines of plain text.

Owns decoding and the place of each row. Standard library only; zstandard and pyarrow are loaded for files that need
them. Never renders an item.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from evalcore.archive.signatures import ARROW_FILE, ARROW_STREAM, PARQUET
from evalcore.compressed import NoZstandard, open_zstandard
from evalcore.json_lines import of_object, of_table

_ARRAY_BYTES = 512 << 20
_OBJECT_CHARS = 64 << 20


class RowError(ValueError):
    """A file, or one row of it, that cannot be used. reason: one sentence with the place. hint: what to do next."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason if hint is None else f"{reason}; {hint}")
        self.reason, self.hint = reason, hint


@dataclass(frozen=True)
class Row:
    """where: `FILE line N`. index: from 0, over rows that are not blank. fields: the JSON object."""

    where: str
    index: int
    fields: dict[str, Any]


def read_rows(path: str) -> Iterator[Row]:
    """Every row of a file, in order. Raises RowError with file and line for what is no row."""
    for index, (where, value) in enumerate(_values(path)):
        if not isinstance(value, dict):
            raise RowError(f"{where} is a JSON {type(value).__name__}, not an object", "one JSON object for each item")
        if index == 0 and (command := of_object(path, value)) is not None:
            raise RowError(f"{where} holds columns or rows in one object, not an item", command)
        yield Row(where, index, value)


def is_parquet(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == PARQUET


def is_table(path: str) -> bool:
    """Whether the file begins as Parquet or Arrow."""
    with open(path, "rb") as file:
        return file.read(6).startswith((PARQUET, ARROW_FILE, ARROW_STREAM))


def read_labels(path: str) -> list[str]:
    """A file with one label a line, beside items that hold none. Raises RowError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.strip() for line in file.read().rstrip("\n").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"{path} cannot be read: {error}", "one label a line") from None


def _values(path: str) -> Iterator[tuple[str, Any]]:
    try:
        if is_table(path):
            yield from _table(path)
        elif path.lower().endswith((".csv", ".tsv")):
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                head = file.readline(_ARRAY_BYTES)
            delimiter = max("\t;,", key=head.count) if head.strip() else ","
            raise RowError(f"{path} is a table, not items as JSON objects", of_table(path, delimiter))
        elif _plain_name(path).endswith(".json"):
            yield from _array_or_lines(path)
        elif _plain_name(path).endswith(".txt"):  # the plain text of LAMBADA: an item a line
            yield from ((where, {"text": line.rstrip("\r\n")}) for where, line in _text_lines(path))
        else:
            yield from _lines(path)
    except FileNotFoundError:
        raise RowError(f"{path} does not exist", "check the path") from None
    except IsADirectoryError:
        raise RowError(f"{path} is a folder", "name a file in it, or one split that `save_to_disk` wrote") from None
    except UnicodeDecodeError as error:
        raise RowError(f"{path} is not UTF-8 text ({error.reason})", "write the file as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path} cannot be read: {error}", "check its permissions, or copy the file again") from None


def _lines(path: str) -> Iterator[tuple[str, Any]]:
    return ((where, _parsed(where, line)) for where, line in _text_lines(path))


def _text_lines(path: str) -> Iterator[tuple[str, str]]:
    """(FILE line N, line) of every line that is not blank."""
    number = 0
    with _opened(path) as file:
        while True:
            where = f"{path} line {number + 1}"
            try:
                line = file.readline()
            except UnicodeDecodeError as error:
                raise RowError(f"{where} is not UTF-8 text ({error.reason})", "write the file as UTF-8") from None
            if not line:
                return
            number += 1
            if line.strip():
                yield where, line


def _array_or_lines(path: str) -> Iterator[tuple[str, Any]]:
    """A `.json` file holds an array of items, or in some copies JSON lines."""
    with _opened(path) as file:
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
    if first == "{" and (value := _object_over_lines(path)) is not None:
        yield path, value
        return
    if first != "[":
        yield from _lines(path)
        return
    if os.path.getsize(path) > _ARRAY_BYTES:
        raise RowError(f"{path} is a JSON array of more than {_ARRAY_BYTES >> 20} MiB", "write it as .jsonl")
    with _opened(path) as file:
        values = _parsed(path, file.read())
    yield from ((f"{path} element {number}", value) for number, value in enumerate(values, 1))


def _object_over_lines(path: str) -> dict[str, Any] | None:
    """The one JSON object of a file, where its first line is none by itself."""
    with _opened(path) as file:
        line = next((line for line in file if line.strip()), "")
        try:
            json.loads(line)
            return None
        except (ValueError, RecursionError):
            text = line + file.read(_OBJECT_CHARS)
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None  # a damaged line, which its reader names
    return value if isinstance(value, dict) else None


def _parsed(where: str, text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_once)
        if "\\u" in text:  # half of a surrogate pair is no text
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{where} has text that is not Unicode ({error.reason})", "write the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where} is not JSON: {error}", "one JSON object a line") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError where it has a key twice with two values: either could be meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        for key, value in pairs:
            if fields[key] != value:
                raise ValueError(f"the key {key[:60]!r} is there twice, with two values")
    return fields


def _table(path: str) -> Iterator[tuple[str, Any]]:
    """Rows of a Parquet or Arrow file."""
    kind = "Parquet" if is_parquet(path) else "Arrow"
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RowError(
            f"{path} is {kind}, which needs the pyarrow library",
            "in a clone of ckptwatch: pip install '.[parquet]', or write .jsonl",
        ) from None
    number = 0
    try:
        with contextlib.ExitStack() as stack:
            for batch in _record_batches(pyarrow, path, kind, stack):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    except (pyarrow.ArrowException, ValueError) as error:
        raise RowError(f"{path} cannot be read past row {number}: {error}", "copy the file again") from None


def _record_batches(pyarrow: Any, path: str, kind: str, stack: contextlib.ExitStack) -> Iterator[Any]:
    if kind == "Parquet":
        return stack.enter_context(pyarrow.parquet.ParquetFile(path)).iter_batches()
    source = stack.enter_context(pyarrow.memory_map(path))
    if source.read(len(ARROW_FILE)) != ARROW_FILE:  # what `save_to_disk` writes
        source.seek(0)
        return iter(stack.enter_context(pyarrow.ipc.open_stream(source)))
    reader = stack.enter_context(pyarrow.ipc.open_file(source))
    return (reader.get_batch(at) for at in range(reader.num_record_batches))


def _plain_name(path: str) -> str:
    return path.lower().removesuffix(".gz").removesuffix(".zst")


def _opened(path: str) -> IO[str]:
    # newline="\n": U+2028 and a lone carriage return are part of a text, not the end of a line
    if path.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    if path.lower().endswith(".zst"):
        try:
            return io.TextIOWrapper(open_zstandard(open(path, "rb")), encoding="utf-8-sig", newline="\n")
        except NoZstandard:
            hint = "in a clone of ckptwatch: pip install '.[zstd]', or decompress it"
            raise RowError(f"{path} needs the zstandard library", hint) from None
    return open(path, encoding="utf-8-sig", newline="\n")
