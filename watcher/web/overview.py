"""The overview: the run table, which panels there are, and the curves of one panel."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

from watcher.domain.metrics import SUITE, best_by, headline
from watcher.domain.timestamps import seconds
from watcher.report.best_words import best_words
from watcher.report.metrics import BAND_WORDS, METRICS, Metric, label_of
from watcher.report.palette import place_of
from watcher.report.thinning import points_of_each
from watcher.web import suite_panel
from watcher.web.chart_data import X_AXES
from watcher.web.overview_facts import Facts, facts, facts_at_once
from watcher.web.source import Row, Source

BESTS_AT_ONCE_S = 0.1  # of the first page: what is not known by then comes with the next update
BESTS_AT_ONCE_MAX = 20  # runs: with more the page does not wait for them at all
BESTS_BUDGET_S = 1.0  # of one request for them
Query = Mapping[str, str]


def overview(source: Source, query: Query) -> Row:
    """`m`: metrics with commas, `x`: axis, `set`: of the run table. The script reads the rest of the address."""
    return _content(source, query, facts(source))


def overview_at_once(source: Source, query: Query) -> Row:
    """The same for a browser that opens the page, without what takes long; `pending`: something is left to ask for."""
    return _content(source, query, facts_at_once(source, query.get("m", "")))


def _content(source: Source, query: Query, known: Facts) -> Row:
    source.refresh_curves()
    chosen = query.get("set") if query.get("set") in known.sets else next(iter(known.sets), None)
    metrics = chosen_metrics(query.get("m", ""), known)
    mine = [cell for cell in known.cells if cell["eval_set"] == chosen]
    by = _of_table(metrics[0], known, chosen)
    if len(mine) <= BESTS_AT_ONCE_MAX and not known.pending:
        source.curves.compute_bests([(cell, _judge(by, cell)) for cell in mine], BESTS_AT_ONCE_S, strict=True)
    return {
        "pending": known.pending,
        "runs": _run_rows(source, mine, known, by),
        "sets": known.sets,
        "set": chosen,
        "metric": metrics[0].key,
        "metrics": [{"key": each.key, "label": each.label, "on": each in metrics} for each in _available(known)],
        "axes": [{"key": key, "label": label} for key, label in X_AXES.items()],
        "x": query.get("x") if query.get("x") in X_AXES else "step",
        "panels": _panels(metrics, known),
        "band_words": BAND_WORDS,
        "counts": known.counts,
        "newest": known.newest,
        "lag_s": max(0.0, time.time() - seconds(known.waiting_at)) if known.waiting_at else 0.0,
    }


def curves(source: Source, query: Query) -> str:
    """JSON text: the curves of one panel. `metric, set, x, from, to` as in the page's address."""
    source.refresh_curves()
    metric = METRICS.get(query.get("metric", "loss"), METRICS["loss"])
    x = query.get("x") if query.get("x") in X_AXES else "step"
    assert x is not None
    about = {"metric": metric.key, "set": query.get("set"), "x": x, "higher_is_better": metric.higher_is_better}
    span = _span(query)
    if metric == SUITE:
        return _answer(about, suite_panel.series_of(source, query.get("set", ""), x, span))
    every = [*facts(source).cells, *source.remembered.get("means", source.panels.means)]
    cells = [cell for cell in every if cell["eval_set"] == query.get("set")]
    if metric.key == "logged":
        cells = [{**run, "eval_set": "", "digest": ""} for run in _runs_as_cells(source)]
    points = points_of_each(len(cells))
    parts = []
    for cell in cells:
        best = source.curves.known_best(cell, _judge(metric, cell))[1] if metric.key != "logged" else None
        head = {"run": cell["run_id"], "best": best.row["id"] if best else None, "weights": cell.get("weights")}
        parts.append(f"{json.dumps(head)[:-1]}, {source.curves.series(cell, metric, x, points, span)[1:]}")
    return _answer(about, parts)


def bests(source: Source, query: Query) -> str:
    """JSON text: computes best points not known yet, for a second at most. `complete`: none is left to compute.

    `m`: of these metrics; `set`: only on this set.
    """
    source.refresh_curves()
    known, only = facts(source), query.get("set")
    chosen = chosen_metrics(query.get("m", ""), known)
    wanted = []
    for cell in (*known.cells, *source.remembered.get("means", source.panels.means)):
        if cell["eval_set"] in known.sets and only in (None, cell["eval_set"]):
            there = [metric for metric in chosen if metric.key in known.sets[cell["eval_set"]]["metrics"]]
            judges = dict.fromkeys(_judge(metric, cell) for metric in there if metric.key != "logged")
            wanted += [(cell, judge) for judge in judges or (headline(cell),)]
    computed, complete = source.curves.compute_bests(wanted, BESTS_BUDGET_S)
    return json.dumps({"computed": computed, "complete": complete})


def chosen_metrics(given: str, known: Facts) -> list[Metric]:
    """The metrics named in the address that some set has; loss where none is, or accuracy where only tasks are."""
    there = _available(known)
    chosen = [METRICS[key] for key in given.split(",") if key in METRICS and METRICS[key] in there]
    return chosen or there[:1] or [METRICS["loss"]]


def _available(known: Facts) -> list[Metric]:
    there = {key for each in known.sets.values() for key in each["metrics"]} | ({SUITE.key} if known.suites else set())
    return [metric for key, metric in METRICS.items() if key in there]


def _judge(metric: Metric, cell: Row) -> Metric:
    return best_by(metric, cell["task"] is not None)


def _answer(about: Row, series: list[str]) -> str:
    return f'{json.dumps(about)[:-1]}, "series": [{",".join(series)}]}}'


def _panels(metrics: list[Metric], known: Facts) -> list[Row]:
    panels = []
    for metric in metrics:
        if metric.key == "logged":
            panels.append({"metric": metric.key, "set": "", "title": metric.label, "label": metric.label})
            continue
        if metric == SUITE:
            panels += [
                {"metric": metric.key, "set": name, "title": name, "label": metric.label} for name in known.suites
            ]
            continue
        for name, about in known.sets.items():
            if metric.key in about["metrics"]:
                label = label_of(metric, about["task"] is not None)
                panels.append({"metric": metric.key, "set": name, "title": name, "label": label})
    return panels


def _of_table(metric: Metric, known: Facts, chosen: str | None) -> Metric:
    """The metric of the run table: the first chosen one where its set has that, else what the set is judged by."""
    if chosen is None or (metric.key in known.sets[chosen]["metrics"] and metric.key != "logged"):
        return metric
    return headline(known.sets[chosen])


def _run_rows(source: Source, cells: list[Row], known: Facts, metric: Metric) -> list[Row]:
    of_run = {cell["run"]: cell for cell in cells}
    bests = {cell["run"]: source.curves.known_best(cell, _judge(metric, cell)) for cell in cells}
    best_rows = _rows_by_id(source, [best.row["id"] for _, best in bests.values() if best], known.pending)
    rows = []
    for run in known.runs:
        colour, dash = place_of(run["id"])
        cell, (is_known, best) = of_run.get(run["name"]), bests.get(run["name"], (not known.pending, None))
        newest = known.newest_of(cell) if cell else None
        best_row = best_rows.get(best.row["id"]) if best else None
        row = {**run, "colour": colour, "dash": dash, "state": _state(run), "pending": not is_known}
        row |= {"newest": newest, "best": best_row, "value": newest[metric.value] if newest else None}
        row["best_value"] = best_row[metric.value] if best_row else None
        row["best_words"] = best_words(best) if best else None
        rows.append(row)
    return rows


def _rows_by_id(source: Source, ids: list[int], pending: bool) -> Mapping[int, Row]:
    """pending: also those read before the last change. Each row read may wait for a thread that computes curves."""
    rows: dict[int, Row] | None = source.remembered.last("best rows")[0] if pending else None
    if rows is None:
        rows = source.remembered.get("best rows", dict[int, Row])
    rows |= source.panels.results_by_id([key for key in ids if key not in rows])
    return rows


def _state(run: Row) -> str:
    for state in ("running", "queued"):
        if run[state]:
            return state
    return "failed" if run["failed"] else "idle"


def _runs_as_cells(source: Source) -> list[Row]:
    return [{"run_id": run["id"], "run": run["name"]} for run in source.pages.run_names()]


def _span(query: Query) -> tuple[float, float] | None:
    try:
        first, last = float(query["from"]), float(query["to"])
    except (KeyError, ValueError):
        return None
    return (first, last) if math.isfinite(first) and math.isfinite(last) and first < last else None
