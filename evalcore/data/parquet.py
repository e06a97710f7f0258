"""Parquet files with a column of texts or of token ids, one document a row, by pyarrow (extra `parquet`).

Owns the choice of the column. Never tokenises; of texts it never holds more than one block of rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from evalcore.archive.signatures import PARQUET
from evalcore.data.columns import ID_COLUMNS, import_pyarrow, joined_ids, kinds_of, listed
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError

_ROWS = 1024


def read_parquet(path: Path, head: bytes) -> DataFile:
    """A file named .parquet, or that begins as one; of ids where it has no texts. Raises DataError where it is none."""
    if not head.startswith(PARQUET):
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1", "download or write it again")
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        if file.read() != PARQUET:
            raise DataError(f"{path} is a Parquet file that is cut off", "download or write it again")
    kinds = _kinds(path)
    ids = [name for name in ID_COLUMNS if kinds.get(name) == "ids"]
    if ids and "text" not in kinds.values():
        return DataFile(path, "parquet_ids", f"Parquet, column {ids[0]}", np.dtype("<u4"), column=ids[0])
    return DataFile(path, "parquet", "Parquet")


def parquet_ids(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(ids of all rows joined, uint32; position of the first token of each row). Raises DataError."""
    return joined_ids(path, column, _batches(path, path, column))


def parquet_texts(path: Path, raw: IO[bytes], text_field: str) -> Iterator[str]:
    """The texts of the column `text_field`, in order. Raises DataError."""
    _demand_texts(path, text_field)
    row = 0
    for batch in _batches(path, raw, text_field):
        for text in batch.column(0).to_pylist():
            row += 1
            if text is None:
                raise DataError(f"{path} row {row} has no text in column {text_field!r}", "drop such rows first")
            yield text


def _batches(path: Path, source: Path | IO[bytes], column: str) -> Iterator[Any]:
    with _as_data_errors(path) as pyarrow:
        yield from pyarrow.parquet.ParquetFile(source).iter_batches(_ROWS, columns=[column])


def _kinds(path: Path) -> dict[str, str]:
    with _as_data_errors(path) as pyarrow:
        return kinds_of(pyarrow.parquet.ParquetFile(path).schema_arrow)


@contextmanager
def _as_data_errors(path: Path) -> Iterator[Any]:
    """pyarrow, whose errors become DataError."""
    pyarrow = import_pyarrow(path, "a Parquet file")
    try:
        yield pyarrow
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {str(error)[:200]}", "download or write it again") from None


def _demand_texts(path: Path, text_field: str) -> None:
    kinds = _kinds(path)
    if kinds.get(text_field) == "text":
        return
    texts = [name for name, kind in kinds.items() if kind == "text"]
    remedy = f"give --text-field {texts[0]} (`text_field` in the settings)" if texts else "write its texts as .jsonl"
    if not texts and (ids := [name for name, kind in kinds.items() if kind == "ids"]):
        remedy = f"name the column of ids input_ids: it is {ids[0]} here"
    raise DataError(f"{path} has no column of texts named {text_field!r} (it has: {listed(kinds)})", remedy)
