"""From result rows to curves: one point per step, the best within noise, the gap to the training set. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from watcher.domain.metrics import LOSS, Metric, best_by, headline
from watcher.report.comparison import NO_ITEMS, Windows, compare
from watcher.report.difference import Difference, NotComparable
from watcher.report.item_comparison import Items

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One run on one eval set, a row per step in order; best is the earliest row as good as the best one.

    weights: how the weights were made where they are a mean of checkpoints; never mixed with single checkpoints.
    """

    run: str
    eval_set: str
    rows: tuple[Row, ...]
    best: Row | None = None
    weights: str | None = None

    @property
    def name(self) -> str:
        return f"{self.run} / {self.eval_set}" + (f" ({self.weights})" if self.weights else "")

    def with_best(self, windows: Windows, items: Items = NO_ITEMS, metric: Metric | None = None) -> Curve:
        """metric: what is best; by default what the set is judged by."""
        best = best_within_noise(self.rows, windows, items, metric)
        return replace(self, best=best.row if best else None)


@dataclass(frozen=True)
class Best:
    """row: the earliest not significantly worse than `lowest`, the row with the best value of the metric.

    difference: lowest to row; None: the same row. again: how many later rows have exactly the value of `lowest`.
    """

    row: Row
    lowest: Row
    difference: Difference | None
    metric: Metric = LOSS
    again: int = 0


@dataclass(frozen=True)
class Gap:
    """Validation loss minus training-subset loss of one checkpoint, in nats per target."""

    run: str
    step: int | None
    train_set: str
    eval_set: str
    gap: float
    stderr: float | None


def curves_of(rows: Sequence[Row], *, by_time: bool = False) -> list[Curve]:
    """Group standing rows by run, set and weights; rows without a step are left out.

    Of several versions of one step the last of `rows` counts: the reader orders them by their observation.
    by_time: in order of saving, and rows without a step too, each of which is a point of its own.
    """
    cells: dict[tuple[str, str, str], dict[Any, Row]] = defaultdict(dict)
    for row in rows:
        if row["step"] is not None:
            cells[_cell(row)][row["step"]] = row
        elif by_time:
            cells[_cell(row)][("without a step", row["id"])] = row

    def place(row: Row) -> Any:
        return (row["saved_at"], row["id"]) if by_time else row["step"]

    return [
        Curve(run, name, tuple(sorted(points.values(), key=place)), weights=weights or None)
        for (run, name, weights), points in sorted(cells.items())
    ]


def _cell(row: Row) -> tuple[str, str, str]:
    return row["run"], row["eval_set"], row.get("weights") or ""


def best_within_noise(
    rows: Sequence[Row], windows: Windows, items: Items = NO_ITEMS, metric: Metric | None = None
) -> Best | None:
    """The earliest row whose paired difference to the best one is not significant; None without a finite value.

    rows: one curve, in order of step. metric: by default what the set is judged by. A row measured otherwise than the
    best one is passed over.
    """
    if not rows:
        return None
    metric = metric or headline(rows[0])
    finite = [row for row in rows if row["finite"] and metric.value_of(row) is not None]
    if not finite:
        return None
    sign = -1 if metric.higher_is_better else 1
    lowest = min(finite, key=lambda row: sign * (metric.value_of(row) or 0.0))
    # a pair needs both: where the lowest has none, a curve of a thousand points asks for none of the others
    windows = windows if windows.get(lowest["id"]) else {}
    items = items if items.get(lowest["id"]) is not None else NO_ITEMS
    for row in finite:
        if row is lowest:
            break
        if _is_far_worse(metric, lowest, row):
            continue
        difference = compare(metric, lowest, row, windows, items)
        if not isinstance(difference, NotComparable) and not difference.significant:
            return Best(row, lowest, difference, metric)
    again = sum(metric.value_of(row) == metric.value_of(lowest) for row in finite) - 1
    return Best(lowest, lowest, None, metric, again)


def _is_far_worse(metric: Metric, lowest: Row, row: Row) -> bool:
    """Significant whatever the windows or items say, so they need not be read.

    The paired standard error is at most sqrt(L+1) times the sum of the two (Cauchy-Schwarz; L lags, 31 with a million
    windows): a difference of 20 sums is beyond any 95 % interval.
    """
    errors = metric.error_of(lowest) or 0.0, metric.error_of(row) or 0.0
    distance = abs((metric.value_of(row) or 0.0) - (metric.value_of(lowest) or 0.0))
    return min(errors) > 0 and distance > 20 * sum(errors)


def best_of_each(
    rows: Sequence[Row], windows: Windows, items: Items = NO_ITEMS, metric: Metric | None = None
) -> list[Best]:
    """Best within noise of each run, set and weights; one row for each step, rows without a step last.

    metric: by default what each set is judged by; what says which point is best is `best_by` it. Of several versions
    of one step the last of `rows` counts, as in `curves_of`.
    """
    grouped: dict[tuple[str, str, str], dict[Any, Row]] = defaultdict(dict)
    for row in rows:
        grouped[_cell(row)][row["step"] if row["step"] is not None else ("id", row["id"])] = row
    bests = []
    for _, points in sorted(grouped.items()):
        group = sorted(
            points.values(), key=lambda row: (row["step"] is None, row["step"] or 0, row["saved_at"], row["id"])
        )
        judge = best_by(metric, group[0].get("task") is not None) if metric else None
        best = best_within_noise(group, windows, items, judge)
        if best is not None:
            bests.append(best)
    return bests


def is_training_set(name: str) -> bool:
    """A set whose name begins with `train` is a piece of the training data."""
    return name.lower().startswith("train")


def gaps_of(rows: Sequence[Row]) -> list[Gap]:
    """The generalisation gap at the newest step that both sets have, for each run, training set and other set."""
    curves = [curve for curve in curves_of(rows) if curve.weights is None and curve.rows[0].get("task") is None]
    gaps = []
    for train in (curve for curve in curves if is_training_set(curve.eval_set)):
        for other in curves:
            if other.run != train.run or is_training_set(other.eval_set):
                continue
            at = {row["step"]: row for row in train.rows if row["finite"]}
            shared = [row for row in other.rows if row["finite"] and row["step"] in at]
            if shared:
                gaps.append(_gap(at[shared[-1]["step"]], shared[-1]))
    return gaps


def _gap(train: Row, other: Row) -> Gap:
    errors = (train["loss_stderr"], other["loss_stderr"])
    stderr = None if None in errors else math.hypot(*errors)
    return Gap(other["run"], other["step"], train["eval_set"], other["eval_set"], other["loss"] - train["loss"], stderr)
