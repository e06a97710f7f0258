"""A small plot of one series of numbers as points of an SVG polyline, thinned. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 600, 90
COLUMNS_MAX = 300
Row = dict[str, Any]


def plot(values: Sequence[float], marked: Sequence[int] = ()) -> Row | None:
    """points: for an SVG of WIDTH x HEIGHT with room for a stroke. Each column keeps its lowest and highest value.

    marked: places to mark; marks: their x. missing: values that are not finite; None where no value is finite.
    """
    there = [place for place, value in enumerate(values) if math.isfinite(value)]
    if not there:
        return None
    low, high = min(values[place] for place in there), max(values[place] for place in there)
    across = (WIDTH - 4) / max(len(values) - 1, 1)
    up = (HEIGHT - 8) / ((high - low) or 1)
    points = " ".join(
        f"{2 + place * across:.1f},{HEIGHT - 4 - (values[place] - low) * up:.1f}" for place in _thinned(values, there)
    )
    return {
        "points": points,
        "low": low,
        "high": high,
        "count": len(values),
        "missing": len(values) - len(there),
        "width": WIDTH,
        "height": HEIGHT,
        "marks": [round(2 + place * across, 1) for place in marked],
    }


def _thinned(values: Sequence[float], there: Sequence[int]) -> list[int]:
    if len(there) <= 2 * COLUMNS_MAX:
        return list(there)
    keep: set[int] = set()
    for column in range(COLUMNS_MAX):
        bucket = there[column * len(there) // COLUMNS_MAX : (column + 1) * len(there) // COLUMNS_MAX]
        keep |= {min(bucket, key=values.__getitem__), max(bucket, key=values.__getitem__)}
    return sorted(keep)
