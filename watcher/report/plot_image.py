"""Curves as a PNG, SVG or PDF file, by matplotlib (extra `plot`). Needs no display."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.errors import EnvironmentProblem
from watcher.report.metrics import BAND_WORDS
from watcher.report.palette import DASHES, LIGHT, place_of
from watcher.report.plot_series import AXES, VALUES, Series, place_words

SUFFIXES = (".png", ".svg", ".pdf")
SIZE = (6.4, 4.2)  # inches, without the legend; 11 points are 9 pixels high where it is shown 390 pixels wide
NAMED_MAX = 40  # curves with a name of their own in the legend
BEST_MAX = 12  # with more curves the legend has names only, in columns
BANDS_MAX = 24  # with more curves bands hide them
MARKERS = "osD^vP*X"  # one for each eval set: the colour is the run's
POINTS = 11  # size of every text
LINE_INCHES = 0.21  # height of a line of the legend


def save(
    series: Sequence[Series], x: str, y: str, out: Path, *, log: bool, title: str = "",
    size: tuple[float, float] = SIZE,
) -> None:  # fmt: skip
    """Write the picture; its kind is the file's suffix. size: inches. Raises EnvironmentProblem without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    except ImportError:
        raise EnvironmentProblem(
            f"{out.suffix} needs matplotlib",
            hint="in a clone of ckptwatch: pip install '.[plot]', or --out curve.html (needs none)",
        ) from None
    # text stays text, the same input gives the same file, and `$` in a name is no formula
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "ckptwatch", "text.parse_math": False, "pdf.fonttype": 42}
    settings |= {"font.size": POINTS, "legend.fontsize": POINTS - 1, "legend.title_fontsize": POINTS - 1}
    with matplotlib.rc_context(settings):
        band = len(series) <= BANDS_MAX
        labels = _labels(series, x)
        across = max(20, int((size[0] - 0.5) * 13))  # characters of a line of text
        columns = max(1, min(4, len(labels), across // (max(map(len, labels)) + 7)))
        labels = [
            label if len(label) <= across else f"{label[: across // 2]}…{label[-across // 3 :]}" for label in labels
        ]
        words = textwrap.wrap(_words(series, band=band), across)
        height = size[1] + LINE_INCHES * (len(words) - (-len(labels) // columns) + 1)
        figure = Figure(figsize=(size[0], height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        sets = list(dict.fromkeys(curve.eval_set for curve in series))
        for curve in series:
            _draw(axes, curve, MARKERS[sets.index(curve.eval_set) % len(MARKERS)], band=band)
        axes.set_xlabel(AXES[x])
        axes.set_ylabel(VALUES[y])
        axes.set_title(title, loc="left", wrap=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(10, subs=_subs(axes.get_ylim(), size[1])))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        handles: list[Any] = axes.get_legend_handles_labels()[0][: len(labels)]
        if len(axes.get_legend_handles_labels()[0]) > len(labels):
            handles[-1] = Line2D([], [], linestyle="")  # the line that counts the others has no colour
        legend = figure.legend(
            handles, labels, loc="outside lower left", frameon=False, ncols=columns, alignment="left",
            title="\n".join(words), handlelength=2.2, columnspacing=1.0, labelspacing=0.25,
        )  # fmt: skip
        legend.get_title().set_color("#555555")
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix)
        figure.savefig(out, dpi=150, metadata=metadata, bbox_inches="tight")


def _subs(limits: tuple[float, float], inches: float) -> tuple[float, ...]:
    """The numbers of a decade that have a tick, so that their labels do not lie over one another."""
    decades = math.log10(limits[1] / limits[0]) / inches
    if decades < 0.5:
        return (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    return (1.0, 2.0, 5.0) if decades < 1.2 else (1.0,)


def _labels(series: Sequence[Series], x: str) -> list[str]:
    """The lines of the legend, in the order in which the curves are drawn."""
    labels = []
    for curve in series:
        best = ""
        if curve.best and len(series) <= BEST_MAX:
            best = f" (best {curve.best[1]:.4g} at {place_words(curve.best[0], x)})"
        labels.append(curve.name + best)
        if curve.logged:
            labels.append(f"{curve.run}, logged by the trainer")
    if len(labels) > NAMED_MAX:
        labels = [*labels[: NAMED_MAX - 1], f"and {len(labels) - NAMED_MAX + 1} more curves"]
    return labels


def _words(series: Sequence[Series], *, band: bool) -> str:
    """What the marks mean."""
    words = ["Star: best within noise."] if any(curve.best for curve in series) else []
    if any(curve.diverged for curve in series):
        words.append("Dotted upright: not finite.")
    if band and any(curve.low for curve in series):
        words.append(BAND_WORDS)
    return " ".join(words)


def _draw(axes, curve: Series, marker: str, *, band: bool) -> None:
    colour, dash = place_of(curve.run_id)
    ink = LIGHT[colour]
    style = (0, DASHES[dash]) if DASHES[dash] else "-"
    every = max(1, len(curve.xs) // 12)  # markers tell the sets apart, and must not hide the line
    axes.plot(
        curve.xs,
        curve.ys,
        color=ink,
        linestyle=style,
        marker=marker,
        markersize=4,
        markevery=every,
        label="curve",
        lw=1.4,
    )
    if curve.low and band:
        axes.fill_between(curve.xs, curve.low, curve.high, color=ink, alpha=0.18, linewidth=0)
    if curve.logged:
        xs, ys = zip(*curve.logged, strict=True)
        axes.plot(xs, ys, color=ink, linestyle=":", linewidth=1, label="logged")
    if curve.best is not None:
        axes.plot([curve.best[0]], [curve.best[1]], color=ink, marker="*", markersize=12, linestyle="")
    for at in curve.diverged:
        axes.axvline(at, color=ink, linestyle=":", linewidth=1)


def _plain(value: float) -> str:
    """`29k`, `0.35`, never a power of ten."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
