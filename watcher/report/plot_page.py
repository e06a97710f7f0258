"""Curves as one HTML file with data, script and style in it: the dashboard's colours and marks, without any request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from typing import Any

from watcher.report import palette
from watcher.report.format import NONE
from watcher.report.plot_series import AXES, Panel, Series
from watcher.report.plot_words import BANDS_MAX, logged_is_drawn, meaning, named
from watcher.report.thinning import points_of_each, thinned

ROWS_MAX = 20_000  # of the table of values
_EMBEDDED = ("theme.js", "uplot.min.css", "chart.css", "uplot.min.js", "marks.js", "chart.js")


def render(panels: Sequence[Panel], x: str, title: str, *, x_log: bool = False, y_log: bool = False) -> str:
    """The whole page. Names come in as data only, so that no name can become markup or script.

    Long curves are thinned as on the dashboard, and the page says so: 200 runs stay some megabytes, and fluid.
    """
    whole = sum(len(curve.xs) for panel in panels for curve in panel.series)
    panels = [replace(panel, series=tuple(_thin(curve, points_of_each(len(panel.series))) for curve in panel.series))
              for panel in panels]  # fmt: skip
    kept = sum(len(curve.xs) for panel in panels for curve in panel.series)
    names, which = named(panels)
    first = {curve.label: curve for panel in panels for curve in panel.series}
    runs = [first[label] for label in dict.fromkeys((*names, *first))]
    places = {curve.label: place for place, curve in enumerate(runs)}
    logged = logged_is_drawn(panels)
    data = {
        "x": AXES[x],
        "x_log": x_log,
        "y_log": y_log,
        "bands_max": BANDS_MAX,
        "named": [places[label] for label in names] if which else None,
        "runs": [_for_legend(curve) for curve in runs],
        "panels": [
            {
                "set": panel.eval_set,
                "label": panel.label,
                "curves": [_for_panel(curve, places[curve.label], logged=logged) for curve in panel.series],
            }
            for panel in panels
        ],
    }
    # `<` is written as an escape: nothing in the data can end the script element
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    words = f"{which} {meaning(panels, band=True)}".strip()
    if kept < whole:
        words += (
            f" Long curves are thinned to {kept:,} of {whole:,} points: the lowest and highest value of each part stay."
        )
    parts = {"TITLE": escape(title), "DATA": text, "TABLE": _table(panels, x), "WORDS": escape(words)}
    parts |= {"XLINEAR": "" if x_log else " checked", "XLOG": " checked" if x_log else ""}
    parts |= {"YLINEAR": "" if y_log else " checked", "YLOG": " checked" if y_log else ""}
    parts["WIDTH"] = "64rem" if len(panels) == 1 else "100rem"
    folder = resources.files("watcher.report")
    parts["palette.css"] = palette.stylesheet()
    parts |= {name: folder.joinpath("chart", name).read_text(encoding="utf-8") for name in _EMBEDDED}
    template = folder.joinpath("plot_page.html").read_text(encoding="utf-8")
    return re.sub(r"@([A-Za-z.]+)@", lambda match: parts[match[1]], template)


def _thin(curve: Series, points_max: int) -> Series:
    """With about this number of points at most; the best one stays."""
    places = list(thinned(range(len(curve.xs)), curve.ys, points_max))
    if len(places) == len(curve.xs):
        return curve
    if curve.best and curve.best[0] in curve.xs:
        places = sorted({*places, curve.xs.index(curve.best[0])})
    logged = thinned(range(len(curve.logged)), [loss for _, loss in curve.logged], points_max)

    def kept(column: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(column[place] for place in places) if column else ()

    return replace(
        curve,
        xs=kept(curve.xs),
        ys=kept(curve.ys),
        low=kept(curve.low),
        high=kept(curve.high),
        logged=tuple(curve.logged[place] for place in logged),
        diverged=curve.diverged[:points_max],
    )


def _for_legend(curve: Series) -> dict[str, Any]:
    colour, dash = palette.place_of(curve.run_id)
    return {
        "label": curve.label,
        "colour": colour,
        "dash": palette.MEAN_DASH if curve.weights else palette.DASHES[dash],
    }


def _for_panel(curve: Series, place: int, *, logged: bool) -> dict[str, Any]:
    """The arrays that chart.js draws. run: the place in `runs`."""
    return {
        "run": place,
        "x": curve.xs,
        "y": _short(curve.ys),
        "low": _short(curve.low),
        "high": _short(curve.high),
        "logged": curve.logged if logged else (),
        "best": curve.best,
        "bad": curve.diverged,
    }


def _short(values: Sequence[float]) -> list[float]:
    """Enough digits to draw with."""
    return [float(f"{value:.7g}") for value in values]


def _table(panels: Sequence[Panel], x: str) -> str:
    rows = [_row(("run", "set", "metric", AXES[x], "value", "95 % from", "to"), "th")]
    left_out = sum(len(curve.xs) for panel in panels for curve in panel.series) - ROWS_MAX
    for panel in panels:
        for curve in panel.series:
            for place, (at, value) in enumerate(zip(curve.xs, curve.ys, strict=True)):
                band = (f"{curve.low[place]:.6g}", f"{curve.high[place]:.6g}") if curve.low else (NONE, NONE)
                at_words = f"{at:,.6g}" if at % 1 else f"{at:,.0f}"
                rows.append(_row((curve.label, curve.eval_set, panel.label, at_words, f"{value:.6g}", *band), "td"))
    if left_out > 0:
        rows[1 + ROWS_MAX :] = [_row((f"{left_out:,} more: ckptwatch results --format csv", *[""] * 6), "td")]
    return "".join(rows)


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
