"""Columns of results -> the series that report/chart/chart.js draws on the dashboard. Pure."""

from __future__ import annotations

from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report.plot_series import band_of

Row = dict[str, Any]
POINTS_MAX = 2000
_SENT = {"id": "id", "step": "step", "tokens_seen": "tokens_seen", "loss": "loss", "logged": "logged_val_loss"}
_SENT |= {"finite": "finite"}


def series_of(curves: list[Row], points_max: int = POINTS_MAX) -> list[Row]:
    """One series for each run and set: lists of equal length, the best's id, and what to know about them.

    curves: as store.read.dashboard has them. Long ones are thinned, keeping each bucket's lowest and highest loss, the
    best, the last, and every non-finite one.
    """
    out = []
    for curve in curves:
        columns = curve["columns"]
        losses = columns["loss"]
        finite = [at for at, is_finite in enumerate(columns["finite"]) if is_finite and losses[at] is not None]
        best = min(finite, key=losses.__getitem__, default=None)
        kept = _thinned(losses, columns["finite"], points_max, best)
        pairs = sorted(set(zip(columns["dtype"], columns["seq_len"], strict=True)))
        bands = [band_of(losses[at], columns["loss_stderr"][at]) for at in kept]
        out.append(
            {
                **{key: curve[key] for key in ("run_id", "run", "eval_set")},
                "results": len(losses),
                "shown": len(kept),
                "best_id": columns["id"][best] if best is not None else None,
                "resolved": [f"{dtype}, {seq_len} tokens" for dtype, seq_len in pairs],
                "mixed": len(pairs) > 1,
                **{name: [columns[column][at] for at in kept] for name, column in _SENT.items()},
                "low": [band[0] if band else None for band in bands],
                "high": [band[1] if band else None for band in bands],
                "saved_s": [round(seconds(columns["saved_at"][at]), 3) for at in kept],
            }
        )
    return out


def _thinned(losses: list[float | None], finite: list[int], points_max: int, best: int | None) -> list[int]:
    """Places of the points to draw, ascending."""
    if len(losses) <= points_max:
        return list(range(len(losses)))
    width = -(-2 * len(losses) // points_max)
    keep = {len(losses) - 1} | ({best} if best is not None else set())
    keep |= {at for at, is_finite in enumerate(finite) if not is_finite}
    for start in range(0, len(losses), width):
        bucket = [at for at in range(start, min(start + width, len(losses))) if losses[at] is not None]
        if bucket:
            keep |= {min(bucket, key=losses.__getitem__), max(bucket, key=losses.__getitem__)}  # type: ignore[arg-type]
    return sorted(keep)
