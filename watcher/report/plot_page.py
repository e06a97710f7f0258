"""Curves as one HTML file with data, script and style in it. It opens offline and makes no request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib import resources

from watcher.report.plot_series import AXES, VALUES, Series


def render(series: Sequence[Series], x: str, y: str, title: str, *, log: bool) -> str:
    """The whole page. Names come in as data only, so that no name can become markup or script."""
    data = {"series": [asdict(one) for one in series], "x": AXES[x], "y": VALUES[y], "log": log}
    # `<` is written as an escape: nothing in the data can end the script element
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    template = resources.files("watcher.report").joinpath("plot_page.html").read_text(encoding="utf-8")
    return template.replace("@TITLE@", escape(title)).replace("@DATA@", text)
