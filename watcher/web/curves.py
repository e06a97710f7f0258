"""Rows of results -> the series that the chart draws. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from watcher.clock import seconds

Row = dict[str, Any]
POINTS_MAX = 2000


def series_of(rows: list[Row], points_max: int = POINTS_MAX) -> list[Row]:
    """One series for each run and set: columns of equal length, the place of the best, and what to know about it.

    rows: sorted by run and set. Long series are thinned, keeping each bucket's lowest and highest loss, the best,
    the last, and every non-finite one.
    """
    out = []
    for (run_id, eval_set), group in groupby(rows, key=lambda row: (row["run_id"], row["eval_set"])):
        points = list(group)
        finite = [point for point in points if point["finite"] and point["loss"] is not None]
        best = min(finite, key=lambda point: point["loss"], default=None)
        kept = _thinned(points, points_max, best)
        kinds = sorted({f"{point['dtype']}, {point['seq_len']} tokens" for point in points})
        out.append(
            {
                "run_id": run_id,
                "run": points[0]["run"],
                "eval_set": eval_set,
                "results": len(points),
                "shown": len(kept),
                "best_id": best["id"] if best else None,
                "resolved": kinds,
                "mixed": len(kinds) > 1,
                "id": [point["id"] for point in kept],
                "step": [point["step"] for point in kept],
                "tokens_seen": [point["tokens_seen"] for point in kept],
                "saved_s": [round(seconds(point["saved_at"]), 3) for point in kept],
                "loss": [point["loss"] for point in kept],
                "stderr": [point["loss_stderr"] for point in kept],
                "logged": [point["logged_val_loss"] for point in kept],
                "finite": [point["finite"] for point in kept],
            }
        )
    return out


def _thinned(points: list[Row], points_max: int, best: Row | None) -> list[Row]:
    if len(points) <= points_max:
        return points
    width = -(-2 * len(points) // points_max)
    keep: set[int] = {points[-1]["id"]} | ({best["id"]} if best else set())
    for start in range(0, len(points), width):
        bucket = points[start : start + width]
        finite = [point for point in bucket if point["loss"] is not None]
        keep |= {point["id"] for point in bucket if not point["finite"]}
        if finite:
            keep.add(min(finite, key=lambda point: point["loss"])["id"])
            keep.add(max(finite, key=lambda point: point["loss"])["id"])
    return [point for point in points if point["id"] in keep]
