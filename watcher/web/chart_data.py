"""One curve's columns -> the JSON of its series in a panel: x, value, 95 % band, thinned. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report.metrics import Metric
from watcher.report.thinning import thinned

Row = dict[str, Any]
#: x axis -> its words. `hours` counts from the first checkpoint of the run that has a result.
X_AXES = {"step": "step", "tokens": "tokens seen", "time": "time (UTC)", "hours": "training hours"}


def columns_for(metric: Metric, x: str) -> tuple[str, ...]:
    """The columns of `results` that a curve of this metric over this axis is drawn from."""
    more = (metric.value, metric.stderr) if metric.stderr else (metric.value,)
    axis = {"step": (), "tokens": ("tokens_seen",)}.get(x, ("saved_at",))
    return ("step", "id", "finite", *axis, *more)


def series_json(
    columns: dict[str, Sequence[Any]],
    metric: Metric,
    x: str,
    points_max: int,
    span: tuple[float, float] | None = None,
) -> str:
    """`{"n": results, "x": [], "y": [], "low": [], "high": [], "id": [], "bad": [[x, id], ...]}`, by x.

    A long curve is thinned: each bucket keeps its lowest and highest value, and the first and last stay. `bad`: points
    whose loss is not finite. span: only points between these x, with one neighbour on each side.
    """
    xs, values = _xs(columns, x), columns[metric.value]
    order = sorted((place for place, at in enumerate(xs) if at is not None), key=lambda place: (xs[place], place))
    if span is not None:
        inside = [n for n, place in enumerate(order) if span[0] <= xs[place] <= span[1]]  # type: ignore[operator]
        order = order[max(0, inside[0] - 1) : inside[-1] + 2] if inside else []
    bad = [place for place in order if not columns["finite"][place]]
    drawn = [place for place in order if values[place] is not None and columns["finite"][place]]
    kept = thinned(drawn, values, points_max)
    errors = columns[metric.stderr] if metric.stderr else None
    bands = [metric.band(values[place], errors[place]) for place in kept] if errors else []
    out: Row = {
        "n": len(drawn),
        "x": [_short(xs[place], 12) for place in kept],
        "y": [_short(values[place]) for place in kept],
        "low": [_short(band[0]) if band else None for band in bands],
        "high": [_short(band[1]) if band else None for band in bands],
        "id": [columns["id"][place] for place in kept],
        "bad": [[_short(xs[place], 12), columns["id"][place]] for place in bad[:points_max]],
    }
    return json.dumps(out, separators=(",", ":"), allow_nan=False)


def _xs(columns: dict[str, Sequence[Any]], x: str) -> Sequence[float | None]:
    if x == "tokens":
        return columns["tokens_seen"]
    if x == "step":
        return columns["step"]
    times = [seconds(at) for at in columns["saved_at"]]
    start_s = min(times, default=0.0) if x == "hours" else 0.0
    return [(at - start_s) / (3600 if x == "hours" else 1) for at in times]


def _short(value: float | None, digits: int = 7) -> float | int | None:
    """Enough digits to draw with; whole numbers stay whole."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
