"""Curves as a PNG, SVG or PDF file, by matplotlib (extra `plot`). Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.errors import EnvironmentProblem
from watcher.report.palette import DASHES, LIGHT, place_of
from watcher.report.plot_series import AXES, VALUES, Series

SUFFIXES = (".png", ".svg", ".pdf")
SIZE = (9.0, 5.5)  # inches, without the legend
NAMED_MAX = 40  # curves with a name of their own in the legend
BANDS_MAX = 24  # with more curves bands hide them


def save(
    series: Sequence[Series], x: str, y: str, out: Path, *, log: bool, title: str = "",
    size: tuple[float, float] = SIZE,
) -> None:  # fmt: skip
    """Write the picture; its kind is the file's suffix. size: inches. Raises EnvironmentProblem without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    except ImportError:
        raise EnvironmentProblem(
            f"{out.suffix} needs matplotlib", hint="pip install 'ckptwatch[plot]', or --out curve.html (needs none)"
        ) from None
    # text stays text, the same input gives the same file, and `$` in a name is no formula
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "ckptwatch", "text.parse_math": False, "pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, curve in enumerate(series, 1):
            _draw(axes, curve, number, band=len(series) <= BANDS_MAX)
        axes.set_xlabel(AXES[x])
        axes.set_ylabel(VALUES[y])
        axes.set_title(title, loc="left", wrap=True)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        if len(handles) > NAMED_MAX:
            labels = [*labels[: NAMED_MAX - 1], f"and {len(handles) - NAMED_MAX + 1} more curves"]
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8 if len(labels) > 12 else 9)
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix)
        figure.savefig(out, dpi=150, metadata=metadata, bbox_inches="tight")


def _draw(axes, curve: Series, number: int, *, band: bool) -> None:
    colour, dash = place_of(number)
    ink = LIGHT[colour]
    label = curve.name
    if curve.best is not None:
        label += f" (best {curve.best[1]:.4g} at {_plain(curve.best[0])})"
    style = (0, DASHES[dash]) if DASHES[dash] else "-"
    axes.plot(
        curve.xs, curve.ys, color=ink, linestyle=style, marker="." if len(curve.xs) < 100 else "", label=label, lw=1.4
    )
    if curve.low and band:
        axes.fill_between(curve.xs, curve.low, curve.high, color=ink, alpha=0.18, linewidth=0)
    if curve.logged:
        xs, ys = zip(*curve.logged, strict=True)
        axes.plot(xs, ys, color=ink, linestyle=":", linewidth=1, label=f"{curve.run}, logged by the trainer")
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
