"""Curves as numbers to draw, in panels: x, y, 95 % band, logged loss, best point, diverged steps. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from watcher.domain.checkpoint import printable
from watcher.domain.metrics import SCORES, Metric
from watcher.domain.timestamps import seconds
from watcher.report.curves import Curve, Row
from watcher.report.format import integer, short_integer
from watcher.report.metrics import label_of

AXES = {"step": "step", "tokens": "tokens seen", "time": "hours since the first checkpoint"}
VALUES = {key: metric.label for key, metric in SCORES.items()}


@dataclass(frozen=True)
class Series:
    """One curve. low, high: the 95 % band, as long as xs, or empty. logged: the trainer's own loss, (x, y) pairs.

    best: the earliest point as good as the lowest. diverged: the xs at which the value is not finite. run_id: the
    number of the run in the database, from 1: its colour follows from it. weights: of a mean of checkpoints.
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    logged: tuple[tuple[float, float], ...] = ()
    best: tuple[float, float] | None = None
    diverged: tuple[float, ...] = ()
    run: str = ""
    run_id: int = 1
    eval_set: str = ""
    weights: str = ""
    metric: str = "loss"
    is_task: bool = False

    @property
    def label(self) -> str:
        """The curve's name in a panel that has the name of its set."""
        return f"{self.run} ({self.weights})" if self.weights else self.run


@dataclass(frozen=True)
class Panel:
    """The curves of one metric on one set: what may share a y axis."""

    metric: Metric
    eval_set: str
    label: str
    series: tuple[Series, ...]


def panels_of(series: Sequence[Series]) -> list[Panel]:
    """A panel for each metric and set: metrics in the order in which they come, sets by name, as on the dashboard."""
    cells: dict[tuple[str, str], list[Series]] = {}
    for each in series:
        cells.setdefault((each.metric, each.eval_set), []).append(each)
    metrics = list(dict.fromkeys(each.metric for each in series))
    return [
        Panel(SCORES[key], name, label_of(SCORES[key], curves[0].is_task), tuple(curves))
        for (key, name), curves in sorted(cells.items(), key=lambda cell: (metrics.index(cell[0][0]), cell[0][1]))
    ]


def positive_x(series: Series) -> Series:
    """Without the points that a logarithmic x axis has no place for."""
    kept = [place for place, at in enumerate(series.xs) if at > 0]
    return replace(
        series,
        xs=tuple(series.xs[place] for place in kept),
        ys=tuple(series.ys[place] for place in kept),
        low=tuple(series.low[place] for place in kept) if series.low else (),
        high=tuple(series.high[place] for place in kept) if series.high else (),
        logged=tuple((at, loss) for at, loss in series.logged if at > 0),
        best=series.best if series.best and series.best[0] > 0 else None,
    )


def leading(panel: Panel, count: int) -> list[str]:
    """The labels of the curves with the best values of a panel, the best one first."""
    sign = -1 if panel.metric.higher_is_better else 1
    values = {each.label: sign * (each.best[1] if each.best else min(each.ys, key=lambda y: sign * y))
              for each in panel.series if each.ys}  # fmt: skip
    return sorted(values, key=lambda label: values[label])[:count]


def series_of(
    curves: Sequence[Curve], x: str = "step", y: str = "loss", numbers: Mapping[str, int] | None = None
) -> list[Series]:
    """x: a key of AXES, y: a key of VALUES. Curves that have nothing on these axes are left out.

    numbers: the number of each run in the database; without them runs are numbered in the order of the curves.
    """
    if numbers is None:
        numbers = {run: number for number, run in enumerate(dict.fromkeys(curve.run for curve in curves), 1)}
    every = [_series(curve, x, SCORES[y], numbers.get(curve.run, 1)) for curve in curves]
    kept = [series for series in every if series.xs or series.diverged]
    kept_at = _nearest_to_logged(kept)
    return [series if series.eval_set == kept_at else replace(series, logged=()) for series in kept]


def _nearest_to_logged(series: Sequence[Series]) -> str | None:
    """The set whose values are nearest to the losses that the trainer logged, which name no set: drawn there only."""
    apart: dict[str, list[float]] = {}
    for each in (each for each in series if each.logged):
        values = dict(zip(each.xs, each.ys, strict=True))
        apart.setdefault(each.eval_set, []).extend(abs(loss - values[at]) for at, loss in each.logged if at in values)
    return min(apart, key=lambda name: fmean(apart[name] or [math.inf]), default=None)


def _series(curve: Curve, x: str, metric: Metric, run_id: int) -> Series:
    start_s = min((seconds(row["saved_at"]) for row in curve.rows), default=0.0)
    placed = [(at, row) for row in curve.rows if (at := _x_of(row, x, start_s)) is not None]
    placed.sort(key=lambda pair: pair[0])
    drawn = [(at, row, value) for at, row in placed if (value := metric.value_of(row)) is not None]
    band = [metric.band_of(row) for _, row, _ in drawn]
    whole = all(edge is not None for edge in band)
    logged = [(at, _logged(row, metric.key)) for at, row in placed if not curve.weights]
    best = next(((at, value) for at, row, value in drawn if row is curve.best), None)
    return Series(
        printable(curve.name),
        tuple(at for at, _, _ in drawn),
        tuple(value for _, _, value in drawn),
        tuple(edge[0] for edge in band if edge) if whole else (),
        tuple(edge[1] for edge in band if edge) if whole else (),
        tuple((at, value) for at, value in logged if value is not None),
        best,
        tuple(at for at, row in placed if metric.value_of(row) is None and _diverged(row, metric)),
        printable(curve.run),
        run_id,
        printable(curve.eval_set),
        printable(curve.weights or ""),
        metric.key,
        curve.rows[0].get("task") is not None,
    )


def _x_of(row: Row, x: str, start_s: float) -> float | None:
    if x == "step":
        return row["step"]
    if x == "tokens":
        return row["tokens_seen"]
    return (seconds(row["saved_at"]) - start_s) / 3600


def place_words(at: float, x: str) -> str:
    """`step 29,000`, `1.2B tokens`, `3.5 hours`: a place on an axis of AXES."""
    if x == "tokens":
        return f"{short_integer(at)} tokens"
    return f"step {integer(at)}" if x == "step" else f"{at:.3g} hours"


def _diverged(row: Row, metric: Metric) -> bool:
    """Whether the value is missing because it is not finite, not because such a set has none."""
    return not row["finite"] or (metric.key == "ppl" and row.get("task") is None)


def _logged(row: Row, y: str) -> float | None:
    loss = row["logged_val_loss"]
    if loss is None or not math.isfinite(loss) or y not in ("loss", "ppl") or row.get("task") is not None:
        return None
    if y == "ppl":
        return math.exp(loss) if loss < 700 else None
    return loss
