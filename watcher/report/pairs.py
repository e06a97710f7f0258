"""Which pairs of results `compare A B` compares: steps, runs at equal steps, RUN@STEP, and means of either. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from watcher.domain.checkpoint import printable
from watcher.domain.metrics import LOSS, Metric, compared_metrics, headline
from watcher.errors import NothingFound, UsageError
from watcher.report.comparison import NO_ITEMS, Difference, NotComparable, Windows, compare
from watcher.report.curves import Curve
from watcher.report.item_comparison import Items
from watcher.report.lookup import expect, expect_step

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """What A or B names: a run, a step, or both; weights: the kind of mean, as in `1000#mean5`. None: not given."""

    run: str | None
    step: int | None
    weights: str | None = None

    def __str__(self) -> str:
        mean = f" ({self.weights})" if self.weights is not None else ""
        if self.step is None:
            return f"{self.run}{mean}"
        return (f"step {self.step}" if self.run is None else f"{self.run} at step {self.step}") + mean


@dataclass(frozen=True)
class ComparedPair:
    """One pair of results on one set, by one metric."""

    eval_set: str
    a: Row
    b: Row
    result: Difference | NotComparable
    metric: Metric = LOSS


def parse_selection(text: str, runs: Sequence[str]) -> Selection:
    """A run's name, a step, or RUN@STEP, each with #MEAN for the mean that ends there. Raises NothingFound.

    A run whose name is a number goes before a step.
    """
    if text in runs:
        return Selection(text, None)
    run, at, step = text.rpartition("@")
    if run in runs and step.isdecimal():  # before the mean: the name of a run may hold #
        return Selection(run, int(step))
    rest, mark, weights = text.rpartition("#")
    if mark and rest and weights:
        return replace(parse_selection(rest, runs), weights=weights)
    if text.isdecimal():
        return Selection(None, int(text))
    if at and step.isdecimal():
        expect("run", run, runs)
        return Selection(run, int(step))
    expect("run", text, runs)
    raise AssertionError("unreachable")  # expect has raised


def matching_pairs(
    a: Selection, b: Selection, curves: Sequence[Curve], earlier: Sequence[Curve] = ()
) -> list[tuple[str, Row, Row]]:
    """(set, row of a, row of b) for every set and step that both have. Raises NothingFound or UsageError.

    earlier: results on other definitions of the sets, which are not compared; an error says where one is meant.
    Two runs without steps are paired at every step that both have; a step without a run means the only run there is.
    Where one of the two is a mean, the other is the single checkpoint, or the mean that it names.
    """
    if (a.step is None) != (b.step is None):
        raise UsageError(
            f"{a} against {b}: one is a run, the other a step", hint="compare 1000 2000, A B, or A@1000 B@2000"
        )
    pairs = []
    for left in curves:
        for right in curves:
            if left.eval_set != right.eval_set or not _fit(left, right, a, b):
                continue
            if not (_selects(left, a) and _selects(right, b)):
                continue
            if a.step is not None and a.run is None and b.run is None and left.run != right.run:
                continue
            pairs += [(left.eval_set, x, y) for x, y in _rows(left, right, a, b)]
    if not pairs:
        _raise_what_is_missing(a, b, curves, earlier)
    return pairs


def compare_pairs(
    pairs: Sequence[tuple[str, Row, Row]], windows: Windows, items: Items = NO_ITEMS
) -> list[ComparedPair]:
    """Each pair by the metrics of its set: the loss, or accuracies and bits per byte of a task."""
    return [
        ComparedPair(name, x, y, compare(metric, x, y, windows, items), metric)
        for name, x, y in pairs
        for metric in (compared_metrics(x) or compared_metrics(y) or (headline(x),))
    ]


def _fit(left: Curve, right: Curve, a: Selection, b: Selection) -> bool:
    """Whether the two are of the kinds of means that are named; of one kind where none is."""
    if a.weights is None and b.weights is None:
        return left.weights == right.weights
    return (left.weights, right.weights) == (a.weights, b.weights)


def _selects(curve: Curve, selection: Selection) -> bool:
    kind = selection.weights is None or curve.weights == selection.weights
    return kind and (selection.run is None or curve.run == selection.run)


def _rows(left: Curve, right: Curve, a: Selection, b: Selection) -> list[tuple[Row, Row]]:
    lefts, rights = ({row["step"]: row for row in curve.rows} for curve in (left, right))
    if a.step is None or b.step is None:
        return [(lefts[step], rights[step]) for step in lefts if step in rights]
    return [(lefts[a.step], rights[b.step])] if a.step in lefts and b.step in rights else []


def _steps(curves: Sequence[Curve], selection: Selection) -> list[int]:
    return sorted({row["step"] for curve in curves if _selects(curve, selection) for row in curve.rows})


def _demand_mean(selection: Selection, curves: Sequence[Curve]) -> None:
    kinds = sorted({curve.weights for curve in curves if curve.weights is not None})
    if selection.weights is not None and selection.weights not in kinds:
        raise NothingFound(
            f"there is no mean {selection.weights}" + (f"; there are {', '.join(kinds)}" if kinds else ""),
            hint="`[[average]]` in the settings makes means; `results` shows them in the column weights",
        )


def _raise_what_is_missing(a: Selection, b: Selection, curves: Sequence[Curve], earlier: Sequence[Curve]) -> None:
    for selection in (a, b):
        _demand_mean(selection, curves)
        steps, before = _steps(curves, selection), _steps(earlier, selection)
        redefined = selection.step not in steps and selection.step in before
        if redefined or (selection.step is None and before and not steps):
            of = [curve for curve in earlier if _selects(curve, selection) and _steps([curve], selection)]
            shown = "" if selection.step is None else f" --step {selection.step}"
            raise NothingFound(
                f"{selection} was evaluated with another definition of {printable(of[0].eval_set)} only: "
                "values of two definitions are not compared",
                hint=f"ckptwatch results{shown} shows that value; evaluate this step with the flags of the other one",
            )
        if selection.step is not None:
            expect_step(selection.step, steps)
        elif not steps:
            raise NothingFound(f"{selection} has no results with a step", hint="ckptwatch results")
    raise NothingFound(f"{a} and {b} share no eval set and step", hint="ckptwatch results shows what there is")
