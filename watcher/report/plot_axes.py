"""One panel of an image: its curves and its axes with ticks in plain numbers. Imports matplotlib (extra `plot`).

Sizes are in points of an image that is 6.4 inches wide, times `scale`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator, NullLocator

from watcher.report.palette import DASHES, LIGHT, MEAN_DASH, place_of
from watcher.report.plot_series import Panel, Series
from watcher.report.plot_words import BANDS_MAX

INK, SOFT, LINE, GRID, BAD, CARD = "#1c2430", "#5b6675", "#8b95a4", "#e9ecf1", "#c02b2b", "#ffffff"  # chart.css, light
DOTS_MAX = 60  # points of a panel: with more of them points are not marked
LOGGED_MARKS = 40  # of a curve
DASH_UNIT = 0.5  # of the line's width, which matplotlib multiplies dashes by: a pixel of a dash on the dashboard


class PlainNumbers(Formatter):
    """`29k`, `0.350`, never a power of ten; below 1,000 all ticks of an axis have the same decimals."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        sizes = [abs(value) for value in values if value]
        if sizes and max(sizes) < 1e3 and max(sizes) < 100 * min(sizes):
            decimals = next((n for n in range(9) if all(abs(round(v, n) - v) < 1e-6 * v for v in sizes)), 9)
            return [f"{value:.{decimals}f}" if value else "0" for value in values]
        return [_short(value) for value in values]


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if 1e-6 < abs(value) < 1 else f"{value:.4g}"


def style_of(curve: Series) -> dict[str, Any]:
    """Colour and dash of a curve, as on the dashboard: a mean of checkpoints is dotted, whatever its run."""
    colour, dash = place_of(curve.run_id)
    pattern = [length * DASH_UNIT for length in (MEAN_DASH if curve.weights else DASHES[dash])]
    return {"color": LIGHT[colour], "linestyle": (0, pattern) if pattern else "-"}


def draw_curves(axes: Axes, panel: Panel, named: Collection[str] | None, scale: float, *, logged: bool) -> None:
    """named: labels of the curves that stand out where the others are thin; None: no curve is thin."""
    band = len(panel.series) <= BANDS_MAX
    dots = sum(len(curve.xs) for curve in panel.series) <= DOTS_MAX
    faint = min(0.45, max(0.15, 15 / len(panel.series)))
    for curve in panel.series:
        if named is not None and curve.label not in named:
            axes.plot(curve.xs, curve.ys, color=style_of(curve)["color"], lw=0.5 * scale, alpha=faint, zorder=2)
    for curve in panel.series:
        if named is None or curve.label in named:
            _draw(axes, curve if logged else replace(curve, logged=()), scale, band=band, dots=dots)


def _draw(axes: Axes, curve: Series, scale: float, *, band: bool, dots: bool) -> None:
    style = style_of(curve)
    ink = style["color"]
    if curve.low and band:
        axes.fill_between(curve.xs, curve.low, curve.high, color=ink, alpha=0.15, linewidth=0, zorder=2.2)
    mark: dict[str, Any] = {"marker": "o", "markersize": 3 * scale, "markeredgewidth": 0}
    axes.plot(curve.xs, curve.ys, **style, lw=1.5 * scale, zorder=3, **(mark if dots or len(curve.xs) == 1 else {}))
    if curve.logged:
        xs, ys = zip(*curve.logged, strict=True)
        axes.plot(xs, ys, color=ink, marker="+", markersize=5 * scale, markeredgewidth=0.9 * scale, linestyle="",
                  markevery=-(-len(xs) // LOGGED_MARKS), zorder=2.6)  # fmt: skip
    if curve.best is not None:
        ring: dict[str, Any] = {"markerfacecolor": CARD, "markeredgecolor": ink, "markeredgewidth": 1.7 * scale}
        at, value = curve.best
        axes.plot([at], [value], marker="o", markersize=6.5 * scale, linestyle="", zorder=4, clip_on=False, **ring)
    if curve.diverged:
        axes.plot(curve.diverged, [1.0] * len(curve.diverged), transform=axes.get_xaxis_transform(), linestyle="",
                  marker="v", markersize=7 * scale, color=ink, markeredgecolor=BAD, markeredgewidth=0.9 * scale,
                  clip_on=False, zorder=5)  # fmt: skip


def set_axes(
    axes: Axes, panel: Panel, limits: tuple[float, float], inches: tuple[float, float], *, x_log: bool, y_log: bool
) -> None:
    """limits: of x, shared by all panels. inches: size of the panel divided by the scale, for the number of ticks."""
    drawn = [y for curve in panel.series for y in curve.ys]
    y_log = y_log and any(y > 0 for y in drawn)
    if x_log:
        axes.set_xscale("log", nonpositive="mask")
    if y_log:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_xlim(limits)
    axes.margins(y=0.06)
    if not drawn:
        axes.set_yticks([])
    for axis, log, most in (
        (axes.xaxis, x_log, max(2, min(8, round(inches[0] * 1.9)))),
        (axes.yaxis, y_log, max(2, min(7, round(inches[1] * 3.4)))),
    ):
        low, high = axis.get_view_interval()
        if log:
            axis.set_major_locator(FixedLocator(log_ticks(low, high, most)))
        elif axis is axes.xaxis or drawn:
            axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(PlainNumbers())
    axes.tick_params(color=LINE, labelcolor=SOFT, width=0.8, length=3.0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(LINE)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers of a logarithmic axis."""
    if high / low < 8:  # less than a decade: round numbers as on a linear axis
        inside = [each for each in MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if each > 0]
        return [each for each in inside if low <= each <= high]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in decades for digit in digits]
        ticks = [each for each in ticks if low <= each <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]
