"""One recognised data file. Owns nothing but its facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEXT_KINDS = ("text", "jsonl", "json", "parquet")


@dataclass(frozen=True)
class DataFile:
    """kind: text | jsonl | json | parquet | npy | bin | raw; the last three, of tokens, have dtype, offset_bytes and
    n_tokens. row_tokens: tokens of each row, where the array has two dimensions.
    """

    path: Path
    kind: str
    label: str
    dtype: np.dtype | None = None
    offset_bytes: int = 0
    n_tokens: int | None = None
    row_tokens: int | None = None

    @property
    def is_text(self) -> bool:
        return self.kind in TEXT_KINDS
