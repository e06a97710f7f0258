"""Parquet files with a column of texts, one document a row, read in blocks by pyarrow (extra `parquet`).

Owns the choice of the column. Never tokenises, never holds more than one block of rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from evalcore.archive.signatures import PARQUET
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError

_ROWS = 1024


def read_parquet(path: Path, head: bytes) -> DataFile:
    """A file named .parquet, or that begins as one. Raises DataError where it is none."""
    if not head.startswith(PARQUET):
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1", "download or write it again")
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        if file.read() != PARQUET:
            raise DataError(f"{path} is a Parquet file that is cut off", "download or write it again")
    return DataFile(path, "parquet", "Parquet")


def parquet_texts(path: Path, raw: IO[bytes], text_field: str) -> Iterator[str]:
    """The texts of the column `text_field`, in order. Raises DataError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path} is a Parquet file, which needs pyarrow", "in a clone of ckptwatch: pip install '.[parquet]'"
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(raw)
        _demand_texts(path, file.schema_arrow, text_field)
        row = 0
        for batch in file.iter_batches(_ROWS, columns=[text_field]):
            for text in batch.column(0).to_pylist():
                row += 1
                if text is None:
                    raise DataError(f"{path} row {row} has no text in column {text_field!r}", "drop such rows first")
                yield text
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {str(error)[:200]}", "download or write it again") from None


def _demand_texts(path: Path, schema: Any, text_field: str) -> None:
    import pyarrow

    types = {field.name: field.type for field in schema}

    def is_text(kind: Any) -> bool:
        return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)

    if text_field in types and is_text(types[text_field]):
        return
    texts = [name for name, kind in types.items() if is_text(kind)]
    remedy = f"give --text-field {texts[0]} (`text_field` in the settings)" if texts else "write its texts as .jsonl"
    ids = [name for name, kind in types.items() if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)]
    if ids and not texts:
        remedy = "save the ids as one array: numpy.save('val.npy', ids.astype('uint32'))"
    listed = ", ".join(f"{name} {kind}" for name, kind in list(types.items())[:10])
    raise DataError(f"{path} has no column of texts named {text_field!r} (it has: {listed})", remedy)
