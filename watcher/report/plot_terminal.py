"""Curves drawn with characters, by plotext (extra `plot`)."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

from watcher.errors import EnvironmentProblem
from watcher.report.plot_series import AXES, VALUES, Series, place_words, positive_x

MIN_WIDTH, MIN_HEIGHT = 40, 12
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BARS_MAX = 30  # error bars on more points than that hide the curve


def draw(
    series: Sequence[Series], x: str, y: str, width: int, height: int, *, log: bool, colour: bool, x_log: bool = False
) -> str:
    """A picture of at most width by height characters. Raises EnvironmentProblem without plotext 6."""
    plotext = _plotext()
    figure = plotext.figure
    figure.clear()
    figure.theme("simple" if colour else "colorless")
    figure.plot_size(max(width, MIN_WIDTH), max(height, MIN_HEIGHT))
    figure.title(VALUES[y])
    figure.label(AXES[x], "x")
    if log and all(value > 0 for curve in series for value in curve.ys):
        figure.ruler("y").scale("log")
    named = series
    if x_log:
        series = [positive_x(curve) for curve in series]
    places, words = _ticks(series, 4 + width // 25, log=x_log)
    if x_log:  # plotext's own logarithmic axis takes no ticks
        series = [_logarithmic(curve) for curve in series]
        places = [math.log10(place) for place in places]
    figure.ruler("x").ticks(places, words)
    for curve in series[: len(LETTERS)]:
        if curve.low and sum(len(each.xs) for each in series) <= BARS_MAX:
            lengths = [high - low for low, high in zip(curve.low, curve.high, strict=True)]  # plotext centres them
            figure.draw(figure.error(list(curve.xs), list(curve.ys), lengths, style="dotted"))
        if curve.logged:
            figure.draw(figure.signal(*_dashes(curve.logged, pieces=60), marker="dot"))
        if curve.xs:
            figure.draw(figure.signal(list(curve.xs), list(curve.ys), marker="braille").lines())
        if curve.best is not None:
            figure.draw(figure.signal([curve.best[0]], [curve.best[1]], marker="*"))
    for number, (curve, letter) in enumerate(zip(series, LETTERS, strict=False)):
        if len(series) > 1 and curve.xs:  # each letter at another place, so that close curves do not hide it
            at = (number + 1) * len(curve.xs) // (min(len(series), len(LETTERS)) + 1)
            figure.draw(figure.text(curve.xs[at], curve.ys[at], letter))
    picture = figure.build().string()
    figure.clear()
    if not colour:
        picture = plotext.uncolorize(picture)
    lines = [line.rstrip() for line in picture.splitlines()]
    return "\n".join([*lines, *legend(named, x)])


def legend(series: Sequence[Series], x: str) -> list[str]:
    """A line for each curve, below the picture: there nothing of the curve is hidden, and no colour is needed."""
    lines = []
    for curve, letter in zip(series, LETTERS, strict=False):
        mark = f"{letter}  " if len(series) > 1 else ""
        best = f"   * best: {curve.best[1]:.5g} at {place_words(curve.best[0], x)}" if curve.best else ""
        logged = "   • logged by the trainer" if curve.logged else ""
        lines.append(f"  {mark}{curve.name}{best}{logged}")
    if len(series) > len(LETTERS):
        lines.append(
            f"  ... and {len(series) - len(LETTERS)} more that are not drawn: choose with --run and --eval-set"
        )
    return lines


def _ticks(series: Sequence[Series], at_most: int, *, log: bool = False) -> tuple[list[float], list[str]]:
    """Round places along the x axis, written in full."""
    xs = [x for curve in series for x in curve.xs]
    low, high = min(xs), max(xs)
    if low == high:
        return [low], [f"{low:.6g}"]
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1,)):
            places = [at for power in decades for digit in digits if low <= (at := digit * 10.0**power) <= high]
            if len(places) <= at_most:
                break
        places = places or [low, high]
        return places, [f"{place:.9g}" for place in places]
    size = 10 ** math.floor(math.log10((high - low) / at_most))
    step = next(by * size for by in (1, 2, 5, 10) if (high - low) / (by * size) <= at_most)
    places = [round(at * step, 9) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return places, [f"{place:.9g}" for place in places]


def _logarithmic(curve: Series) -> Series:
    """Each x as its decimal logarithm."""
    return replace(
        curve,
        xs=tuple(map(math.log10, curve.xs)),
        logged=tuple((math.log10(at), loss) for at, loss in curve.logged),
        best=(math.log10(curve.best[0]), curve.best[1]) if curve.best else None,
    )


def _dashes(points: Sequence[tuple[float, float]], pieces: int) -> tuple[list[float], list[float]]:
    """Evenly spaced points on the broken line through `points`."""
    if len(points) == 1:
        return [points[0][0]], [points[0][1]]
    first, last = points[0][0], points[-1][0]
    xs = [first + (last - first) * piece / pieces for piece in range(0, pieces + 1, 2)]
    ys, at = [], 0
    for x in xs:
        while at < len(points) - 2 and points[at + 1][0] < x:
            at += 1
        (x0, y0), (x1, y1) = points[at], points[at + 1]
        ys.append(y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return xs, ys


def _plotext():
    try:
        import plotext
    except ImportError:
        raise EnvironmentProblem(
            "a curve in the terminal needs plotext",
            hint="in a clone of ckptwatch: pip install '.[plot]', or --out curve.html (needs none)",
        ) from None
    if not hasattr(plotext, "figure"):
        raise EnvironmentProblem(
            f"plotext of {sys.modules['plotext'].__file__} is older than 6", hint="pip install -U plotext"
        )
    return plotext
