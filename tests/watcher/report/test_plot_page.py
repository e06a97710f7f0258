"""The HTML plot's data: long curves of many runs are thinned as on the dashboard, and the page says so."""

from __future__ import annotations

import json
import re

from watcher.domain.metrics import LOSS
from watcher.report.plot_page import render
from watcher.report.plot_series import Panel, Series

POINTS = 1000


def curve(number: int) -> Series:
    ys = [3 + 1000 / (500 + at) for at in range(POINTS)]
    ys[321], ys[654] = 0.5 + number, 99.0  # the lowest and the highest
    steps = tuple(float(at) for at in range(POINTS))
    low, high = tuple(y - 0.1 for y in ys), tuple(y + 0.1 for y in ys)
    return Series(f"r{number}", steps, tuple(ys), low, high, best=(777.0, ys[777]), run=f"r{number}", run_id=number)


def test_two_hundred_long_curves_are_thinned_and_keep_ends_extremes_and_the_best_point():
    series = tuple(curve(number) for number in range(1, 201))
    page = render([Panel(LOSS, "val", "loss", series)], "step", "many")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    (panel,) = data["panels"]
    for drawn, whole in zip(panel["curves"], series, strict=True):
        assert len(drawn["x"]) == len(drawn["y"]) == len(drawn["low"]) == len(drawn["high"]) <= 64
        assert {0.0, 321.0, 654.0, 777.0, 999.0} <= set(drawn["x"]) and drawn["best"] == list(whole.best)
        at = drawn["x"].index(321.0)
        assert (drawn["y"][at], drawn["high"][at]) == (whole.ys[321], round(whole.ys[321] + 0.1, 6))
    kept = sum(len(each["x"]) for each in panel["curves"])
    assert f"Long curves are thinned to {kept:,} of 200,000 points" in page and len(page) < 3_000_000


def test_curves_that_a_browser_draws_whole_are_not_thinned():
    page = render([Panel(LOSS, "val", "loss", (curve(1), curve(2)))], "step", "two")
    assert page.count("[0.0, 1.0, 2.0, 3.0") == 2 and "thinned" not in page
