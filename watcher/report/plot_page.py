"""Curves as one HTML file with data, script and style in it: drawn as on the dashboard, without any request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from watcher.report import palette
from watcher.report.format import NONE
from watcher.report.metrics import BAND_WORDS
from watcher.report.plot_series import AXES, VALUES, Series

_EMBEDDED = ("theme.js", "uplot.min.css", "chart.css", "uplot.min.js", "chart.js")


def render(series: Sequence[Series], x: str, y: str, title: str, *, log: bool) -> str:
    """The whole page. Names come in as data only, so that no name can become markup or script."""
    drawn = [_for_chart(curve, place) for place, curve in enumerate(series)]
    data = {"series": drawn, "x": AXES[x], "y": VALUES[y], "log": log}
    # `<` is written as an escape: nothing in the data can end the script element
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    parts = {"TITLE": escape(title), "DATA": text, "TABLE": _table(series, x, y), "BAND": escape(BAND_WORDS)}
    parts |= {"LINEAR": "" if log else " checked", "LOG": " checked" if log else ""}
    folder = resources.files("watcher.report")
    parts["palette.css"] = palette.stylesheet()
    parts |= {name: folder.joinpath("chart", name).read_text(encoding="utf-8") for name in _EMBEDDED}
    template = folder.joinpath("plot_page.html").read_text(encoding="utf-8")
    return re.sub(r"@([A-Za-z.]+)@", lambda match: parts[match[1]], template)


def _for_chart(series: Series, number: int) -> dict[str, Any]:
    """The arrays that chart.js draws, one entry for each x; x stands in `step` whatever the axis."""
    values, logged = dict(zip(series.xs, series.ys, strict=True)), dict(series.logged)
    low, high = (dict(zip(series.xs, edge, strict=True)) if edge else {} for edge in (series.low, series.high))
    xs = sorted({*values, *logged, *series.diverged})
    return {
        "run_id": number,
        "eval_set": series.name,
        "name": series.name,
        "id": xs,
        "best_id": series.best[0] if series.best else None,
        "step": xs,
        "tokens_seen": [],
        "loss": [values.get(at) for at in xs],
        "low": [low.get(at) for at in xs],
        "high": [high.get(at) for at in xs],
        "logged": [logged.get(at) for at in xs],
        "finite": [int(at not in series.diverged) for at in xs],
        "mixed": False,
    }


def _table(series: Sequence[Series], x: str, y: str) -> str:
    rows = [_row(("curve", AXES[x], VALUES[y], "95 % from", "to"), "th")]
    for curve in series:
        for place, (at, value) in enumerate(zip(curve.xs, curve.ys, strict=True)):
            band = (f"{curve.low[place]:.6g}", f"{curve.high[place]:.6g}") if curve.low else (NONE, NONE)
            rows.append(_row((curve.name, f"{at:,.6g}" if at % 1 else f"{at:,.0f}", f"{value:.6g}", *band), "td"))
    return "".join(rows)


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
