"""The facts of one recognised data file: kind, token type, offset, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEXT_KINDS = ("text", "jsonl", "json", "parquet", "arrow")


@dataclass(frozen=True)
class DataFile:
    """kind: text | jsonl | json | parquet | arrow | npy | bin | raw | megatron | arrow_ids | parquet_ids;
    those of tokens have dtype.

    n_tokens: None where the file has to be read for it. row_tokens: tokens of each row, where the array has two
    dimensions. index: Megatron's, beside the file. column: of ids. notes: doubts about the file, for a result's note.
    """

    path: Path
    kind: str
    label: str
    dtype: np.dtype | None = None
    offset_bytes: int = 0
    n_tokens: int | None = None
    row_tokens: int | None = None
    index: Path | None = None
    column: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.kind in TEXT_KINDS
