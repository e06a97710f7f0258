"""Rows as data for other programs: JSON Lines and CSV. Numbers keep all their digits; what is not finite is null."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def as_jsonl(rows: Sequence[Row]) -> str:
    return "\n".join(json.dumps(plain(row), ensure_ascii=False, allow_nan=False) for row in rows)


def as_csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """RFC 4180 with a head line; an empty cell is NULL."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return out.getvalue().rstrip("\n")


def plain(row: Row) -> Row:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
