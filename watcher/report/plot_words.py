"""The words around curves in an image or file: the name of each curve, which are named, what the marks mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from watcher.report.format import short_integer
from watcher.report.metrics import BAND_WORDS
from watcher.report.plot_series import Panel, Series, leading

NAMED_MAX = 24  # curves that all have names: there are as many colours
LEADING = 8  # curves with names where there are more
BEST_MAX = 12  # with more curves the legend has names only
BANDS_MAX = 24  # curves of a panel: with more of them bands hide them; as on the dashboard
LOGGED_MAX = 6  # curves with a logged loss: more of them hide the measured ones
RING = "○"
LOGGED_LEFT_OUT = f"The loss logged by the trainer is drawn for up to {LOGGED_MAX} runs."


def named(panels: Sequence[Panel]) -> tuple[list[str], str]:
    """The labels of the curves that are named, and where not all are, a sentence that says which; else an empty text.

    Where there are too many, those with the best values of the first panel.
    """
    every = list(dict.fromkeys(curve.label for panel in panels for curve in panel.series))
    if len(every) <= NAMED_MAX:
        return every, ""
    first = panels[0]
    chosen = leading(first, LEADING)
    best = "highest" if first.metric.higher_is_better else "lowest"
    name = first.label.split(" (")[0]
    words = f"Named: the {len(chosen)} of {len(every)} curves with the {best} {name} on {first.eval_set}, best first."
    return chosen, words


def best_words(curve: Series, x: str) -> str:
    """`○ 3.016 at 10k`: value and place of the best point; empty where there is none."""
    if not curve.best:
        return ""
    at = f"{curve.best[0]:.3g} h" if x == "time" else short_integer(curve.best[0])
    return f"{RING} {curve.best[1]:.4g} at {at}"


def logged_is_drawn(panels: Sequence[Panel]) -> bool:
    return sum(bool(curve.logged) for panel in panels for curve in panel.series) <= LOGGED_MAX


def meaning(panels: Sequence[Panel], *, band: bool) -> str:
    """What the marks of these panels mean. band: whether bands are drawn."""
    curves = [curve for panel in panels for curve in panel.series]
    words = []
    if any(curve.best for curve in curves):
        words.append(f"{RING}\u00a0best within noise: earliest value not significantly worse than the best.")
    if any(curve.logged for curve in curves):
        drawn = logged_is_drawn(panels)
        words.append("+\u00a0loss logged by the trainer." if drawn else LOGGED_LEFT_OUT)
    if any(curve.diverged for curve in curves):
        words.append("▼\u00a0not finite.")
    if band and any(curve.low for curve in curves):
        words.append(BAND_WORDS)
    return " ".join(words)
