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
        for number, curve in enumerate(series):
            _draw(axes, curve, f"C{number % 10}")
        axes.set_xlabel(AXES[x])
        axes.set_ylabel(VALUES[y])
        if log:
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        metadata = {"Date": None} if out.suffix == ".svg" else None
        figure.savefig(out, dpi=150, metadata=metadata)


def _draw(axes, curve: Series, colour: str) -> None:
    axes.plot(curve.xs, curve.ys, color=colour, marker="." if len(curve.xs) < 100 else "", label=curve.name)
    if curve.low:
        axes.fill_between(curve.xs, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
    if curve.logged:
        xs, ys = zip(*curve.logged, strict=True)
        axes.plot(xs, ys, color=colour, linestyle="--", linewidth=1, label=f"{curve.name}, logged by the trainer")
    if curve.best is not None:
        label = f"best: {curve.best[1]:.4g} at {curve.best[0]:g}"
        axes.plot([curve.best[0]], [curve.best[1]], color=colour, marker="*", markersize=13, linestyle="", label=label)
    for at in curve.diverged:
        axes.axvline(at, color=colour, linestyle=":", linewidth=1)
