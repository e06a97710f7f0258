"""A small plot of one series of numbers as points of an SVG polyline, thinned; and its highest places. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 600, 90
COLUMNS_MAX = 300
SPIKES = 5
Row = dict[str, Any]


def plot(values: Sequence[float]) -> Row:
    """points: for an SVG of WIDTH x HEIGHT with room for a stroke. Each column keeps its lowest and highest value."""
    low, high = min(values), max(values)
    kept = _thinned(values)
    across = (WIDTH - 4) / max(len(values) - 1, 1)
    up = (HEIGHT - 8) / ((high - low) or 1)
    points = " ".join(f"{2 + place * across:.1f},{HEIGHT - 4 - (values[place] - low) * up:.1f}" for place in kept)
    return {"points": points, "low": low, "high": high, "count": len(values), "width": WIDTH, "height": HEIGHT}


def spikes(values: Sequence[float], targets: Sequence[int]) -> list[Row]:
    """The windows with the highest loss, highest first: number, loss, and which targets of the stream they scored."""
    firsts, total = [], 0
    for count in targets:
        firsts.append(total + 1)
        total += count
    highest = sorted(range(len(values)), key=lambda place: -values[place])[:SPIKES]
    return [
        {"window": place, "loss": values[place], "first": firsts[place], "last": firsts[place] + targets[place] - 1}
        for place in highest
    ]


def _thinned(values: Sequence[float]) -> list[int]:
    if len(values) <= 2 * COLUMNS_MAX:
        return list(range(len(values)))
    keep: set[int] = set()
    for column in range(COLUMNS_MAX):
        bucket = range(column * len(values) // COLUMNS_MAX, (column + 1) * len(values) // COLUMNS_MAX)
        keep |= {min(bucket, key=values.__getitem__), max(bucket, key=values.__getitem__)}
    return sorted(keep)
