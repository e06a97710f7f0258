"""The panel of a suite: the mean of its tasks over each run's checkpoints, as /api/curves gives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from watcher.domain.metrics import SUITE
from watcher.report.curves import best_within_noise
from watcher.report.thinning import points_of_each
from watcher.web.chart_data import series_json
from watcher.web.source import Row, Source


def series_of(source: Source, suite: str, x: str, span: tuple[float, float] | None) -> list[str]:
    """JSON texts, one for each curve. Best within noise by the standard errors: a mean has no items of its own."""
    curves = [each for each in source.remembered.get("suite curves", source.panels.suite_curves)
              if each["suite"] == suite]  # fmt: skip
    points = points_of_each(len(curves))
    parts = []
    for curve in curves:
        rows: Sequence[dict[str, Any]] = [{**row, "eval_digest": suite} for row in curve["rows"]]
        best = best_within_noise(rows, {}, metric=SUITE)
        head: Row = {"run": curve["run_id"], "best": best.row["id"] if best else None, "weights": curve["weights"]}
        columns: dict[str, Sequence[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
        parts.append(f"{json.dumps(head)[:-1]}, {series_json(columns, SUITE, x, points, span)[1:]}")
    return parts
