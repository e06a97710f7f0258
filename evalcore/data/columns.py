"""Columns of Arrow and Parquet files: which hold texts and which token ids, and the ids of all rows joined.

Owns the types that count, plain, dictionary-encoded and of fixed size alike. Opens no file; never tokenises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evalcore.data.errors import DataError

ID_COLUMNS = ("input_ids", "tokens", "token_ids")


def import_pyarrow(path: Path, what: str) -> Any:
    """pyarrow, or DataError with the extra to install. what: `an Arrow file`, for the sentence."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        reason = f"{path} is {what}, which needs pyarrow"
        raise DataError(reason, "in a clone of ckptwatch: pip install '.[parquet]'") from None
    return pyarrow


def kinds_of(schema: Any) -> dict[str, str]:
    """Column -> text, ids, or the name of another type."""
    return {field.name: _kind_of(field.type) for field in schema}


def listed(kinds: Mapping[str, str]) -> str:
    """`title text, body text` of the first ten columns."""
    return ", ".join(f"{name} {kind}" for name, kind in list(kinds.items())[:10])[:200]


def joined_ids(path: Path, column: str, batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(ids of all rows joined, uint32; position of the first token of each row). Raises DataError."""
    parts: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    for batch in batches:
        rows = _as_lists(batch.column(column))
        if rows.null_count or rows.flatten().null_count:
            raise DataError(f"{path} has rows without {column}", "drop such rows first")
        ids = rows.flatten().to_numpy(zero_copy_only=False)
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= 1 << 32):
            raise DataError(f"{path} holds ids outside 0 to 2^32 - 1 in {column}", "check how they were made")
        parts.append(ids.astype(np.uint32))
        lengths.append(np.asarray(rows.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64))
    if not parts or not sum(map(len, parts)):
        raise DataError(f"{path} holds no tokens", "name another file")
    ends = np.cumsum(np.concatenate(lengths))
    starts = np.concatenate([[0], ends[:-1]])
    return np.concatenate(parts), np.unique(starts[starts < ends[-1]])


def _as_lists(rows: Any) -> Any:
    """Lists of a fixed size have no lengths of their own."""
    import pyarrow

    if pyarrow.types.is_fixed_size_list(rows.type):
        return rows.cast(pyarrow.large_list(rows.type.value_type))
    return rows


def _kind_of(kind: Any) -> str:
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner):
        return "text"
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return "ids" if is_list and types.is_integer(kind.value_type) else str(kind)
