"""Curves as a PNG or SVG file, by matplotlib (extra `plot`). Needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.errors import EnvironmentProblem
from watcher.report.plot_series import AXES, VALUES, Series


def save(series: Sequence[Series], x: str, y: str, out: Path, *, log: bool) -> None:
    """Write the picture; its kind is the file's suffix. Raises EnvironmentProblem without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise EnvironmentProblem(
            f"{out.suffix} needs matplotlib", hint="pip install 'ckptwatch[plot]', or --out curve.html (needs none)"
        ) from None
    # text stays text, the same input gives the same file, and `$` in a name is no formula
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "ckptwatch", "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, one in enumerate(series):
            _draw(axes, one, f"C{number % 10}")
        axes.set_xlabel(AXES[x])
        axes.set_ylabel(VALUES[y])
        if log:
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        metadata = {"Date": None} if out.suffix == ".svg" else None
        figure.savefig(out, dpi=150, metadata=metadata)


def _draw(axes, one: Series, colour: str) -> None:
    axes.plot(one.xs, one.ys, color=colour, marker="." if len(one.xs) < 100 else "", label=one.name)
    if one.low:
        axes.fill_between(one.xs, one.low, one.high, color=colour, alpha=0.2, linewidth=0)
    if one.logged:
        xs, ys = zip(*one.logged, strict=True)
        axes.plot(xs, ys, color=colour, linestyle="--", linewidth=1, label=f"{one.name}, logged by the trainer")
    if one.best is not None:
        said = f"best: {one.best[1]:.4g} at {one.best[0]:g}"
        axes.plot([one.best[0]], [one.best[1]], color=colour, marker="*", markersize=13, linestyle="", label=said)
    for at in one.diverged:
        axes.axvline(at, color=colour, linestyle=":", linewidth=1)
