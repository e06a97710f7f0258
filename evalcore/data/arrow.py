"""Arrow files, as Hugging Face datasets keeps them: a column of texts, or of ids, by pyarrow (extra `parquet`).

Owns the choice of the column. A data set with both is refused without a format. Never tokenises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evalcore.archive.signatures import ARROW_FILE, ARROW_STREAM
from evalcore.data.columns import ID_COLUMNS, import_pyarrow, joined_ids, kinds_of, listed
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError
from evalcore.data_digest import files_of_dataset


def dataset_files(path: Path) -> list[Path]:
    """The Arrow files of a folder that `save_to_disk` of Hugging Face datasets wrote, in order. Raises DataError."""
    try:
        splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        splits = None
    if isinstance(splits, list) and splits:
        reason = f"{path} is a Hugging Face DatasetDict of {len(splits)} splits: {', '.join(map(str, splits))[:100]}"
        raise DataError(reason, f"name one of them, for example {path / str(splits[-1])}")
    files = [Path(file) for file in files_of_dataset(str(path)) or ()]
    if not files:
        raise DataError(f"{path} is a Hugging Face datasets folder whose state.json names no files", "save it again")
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(f"{path} lacks {', '.join(missing[:3])}, which its state.json names", "copy it again")
    return files


def read_arrow(path: Path, head: bytes, declared: bool) -> DataFile:
    """An Arrow file. declared: its texts are wanted, whatever else it holds. Raises DataError."""
    if not head.startswith((ARROW_FILE, ARROW_STREAM)):
        raise DataError(f"{path} is no Arrow file: it does not begin as one", "download or write it again")
    kinds = _schema(path)
    ids = [name for name in ID_COLUMNS if kinds.get(name) == "ids"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if ids and texts and not declared:
        reason = f"{path} holds both texts ({texts[0]}) and token ids ({ids[0]})"
        raise DataError(reason, f"--format arrow reads the texts; for the ids: remove_columns({texts!r}) and save it")
    if ids and not (declared and texts):
        return DataFile(path, "arrow_ids", f"Arrow, column {ids[0]}", np.dtype("<u4"), column=ids[0])
    if not texts:
        reason = f"{path} has no column of texts or of token ids (it has: {listed(kinds)})"
        raise DataError(reason, "save it with a column `text` of strings or `input_ids` of lists of whole numbers")
    return DataFile(path, "arrow", "Arrow, texts")


def arrow_texts(path: Path, text_field: str) -> Iterator[str]:
    """The texts of the column, in order. Raises DataError."""
    schema = _schema(path)
    if schema.get(text_field) != "text":
        texts = [name for name, kind in schema.items() if kind == "text"]
        remedy = f"give --text-field {texts[0]} (`text_field` in the settings)" if texts else "write them as .jsonl"
        remedy += "; for the items of a task, give --task NAME"
        raise DataError(f"{path} has no column of texts named {text_field!r} (it has: {listed(schema)})", remedy)
    row = 0
    for batch in _batches(path):
        for text in batch.column(text_field).to_pylist():
            row += 1
            if text is None:
                raise DataError(f"{path} row {row} has no text in column {text_field!r}", "drop such rows first")
            yield text


def arrow_ids(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(ids of all rows joined, uint32; position of the first token of each row). Raises DataError."""
    return joined_ids(path, column, _batches(path))


def _schema(path: Path) -> dict[str, str]:
    """Column -> text, ids, or the name of another type."""
    with _opened(path) as reader:
        return kinds_of(reader.schema)


def _batches(path: Path) -> Iterator[Any]:
    pyarrow = import_pyarrow(path, "an Arrow file")
    try:
        with _opened(path) as reader:
            if hasattr(reader, "num_record_batches"):
                yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                yield from reader
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error)[:200]}", "download or write it again") from None


def _opened(path: Path) -> Any:
    pyarrow = import_pyarrow(path, "an Arrow file")
    try:
        source = pyarrow.memory_map(str(path))
        is_file = source.read(len(ARROW_FILE)) == ARROW_FILE
        source.seek(0)
        return pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error)[:200]}", "download or write it again") from None
