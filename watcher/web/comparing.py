"""Any two or more runs or steps beside each other: paired differences to the first, and configurations side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from watcher.errors import CkptwatchError, NothingFound
from watcher.report.comparison import Difference, verdict
from watcher.report.curves import Curve
from watcher.report.pairs import Selection, compare_pairs, matching_pairs, parse_selection
from watcher.web.curve_cache import COMPARED
from watcher.web.source import Row, Source

COMPARED_MAX = 8  # at once
PAIRS_SHOWN = 200  # of each against the first, newest steps first


def compare(source: Source, query: Any) -> Row:
    """`of`: a run, a step or RUN@STEP, or a mean of one (#MEAN), twice or more; `set`: only this set.

    The first is the baseline.
    """
    names = [run["name"] for run in source.pages.run_names()]
    given = list(dict.fromkeys(text for text in query.getlist("of") if text))[:COMPARED_MAX]
    wanted = query.get("set") or None
    cells = source.panels.cells()
    content: Row = {
        "of": given,
        "set": wanted,
        "runs": names,
        "sets": sorted({cell["eval_set"] for cell in cells}),
        "compared": [],
        "config": None,
        "problem": None,
        "shown": PAIRS_SHOWN,
    }
    if len(given) < 2:
        return content
    try:
        selections = [parse_selection(text, names) for text in given]
        if any(each.weights is not None for each in selections):
            cells = [*cells, *source.panels.means()]
        curves = _curves(source, cells, selections, wanted)
        for selection, words in zip(selections[1:], given[1:], strict=True):
            try:
                against = _against(source, selections[0], selection, curves, (given[0], words))
            except NothingFound:  # once more with all steps, for the nearest ones
                curves = _curves(source, cells, selections, wanted, whole=True)
                against = _against(source, selections[0], selection, curves, (given[0], words))
            content["compared"].append(against)
        content["config"] = side_by_side(_configs(source, selections, given, names))
    except CkptwatchError as error:
        content["problem"] = f"{error.cause}. {error.hint}"
    return content


def side_by_side(configs: Mapping[str, Row | None]) -> Row:
    """heads: the compared ones; rows: one for each key, those that differ first. A missing key is None."""
    flat = {name: _flat(config) for name, config in configs.items()}
    keys = sorted({key for values in flat.values() for key in values})
    rows: list[Row] = []
    for key in keys:
        values = [each.get(key) for each in flat.values()]
        rows.append({"key": key, "cells": values, "differs": len(set(values)) > 1})
    return {"heads": list(flat), "rows": sorted(rows, key=lambda row: not row["differs"])}


def _against(
    source: Source, first: Selection, other: Selection, curves: Sequence[Curve], words: tuple[str, str]
) -> Row:
    pairs = matching_pairs(first, other, curves)
    pairs.sort(key=lambda pair: (-(pair[1]["step"] or 0), pair[0]))  # all sets at the newest step stand on top
    rows = []
    for pair in compare_pairs(pairs[:PAIRS_SHOWN], source.windows, source.items):
        row: Row = {"eval_set": pair.eval_set, "a_step": pair.a["step"], "b_step": pair.b["step"]}
        row |= {"metric": pair.metric.label, "higher_is_better": pair.metric.higher_is_better}
        row |= {
            "a": pair.metric.value_of(pair.a),
            "b": pair.metric.value_of(pair.b),
            "a_id": pair.a["id"],
            "b_id": pair.b["id"],
        }
        row |= dict.fromkeys(("difference", "low", "high", "p", "method", "windows"))
        row |= {"significant": False, "verdict": verdict(pair.result, *words, pair.metric)}
        if isinstance(pair.result, Difference):
            keys = ("difference", "low", "high", "p", "method", "windows", "significant")
            row |= {key: getattr(pair.result, key) for key in keys}
        rows.append(row)
    return {"name": words[1], "rows": rows, "pairs": len(pairs)}


def _curves(
    source: Source, cells: list[Row], selections: Sequence[Selection], wanted: str | None, *, whole: bool = False
) -> list[Curve]:
    """A step without a run means every run that has it. Where steps are named only these are read, unless `whole`."""
    runs = None if any(each.run is None for each in selections) else {each.run for each in selections}
    steps = sorted({each.step for each in selections if each.step is not None})
    spans: list[tuple[int | None, int | None]] = [(step, step) for step in steps]
    if whole or any(each.step is None for each in selections):
        spans = [(None, None)]
    curves = []
    for cell in cells:
        if (runs is not None and cell["run"] not in runs) or (wanted is not None and cell["eval_set"] != wanted):
            continue
        rows: list[Row] = []
        for span in spans:
            columns = source.panels.points(cell, COMPARED, span)
            rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        points = tuple({**row, "run": cell["run"]} for row in rows if row["step"] is not None)
        curves.append(Curve(cell["run"], cell["eval_set"], points, weights=cell.get("weights")))
    return curves


def _configs(
    source: Source, selections: Sequence[Selection], words: Sequence[str], names: Sequence[str]
) -> dict[str, Row | None]:
    configs: dict[str, Row | None] = {}
    for selection, name in zip(selections, words, strict=True):
        run = selection.run or (names[0] if len(names) == 1 else None)
        configs[name] = source.runs.config_of(run, selection.step) if run is not None else None
    return configs


def _flat(row: Row | None) -> dict[str, str]:
    """The configuration as dotted keys and text, with what the file itself tells."""
    if row is None:
        return {}
    try:
        config = json.loads(row["config"]) if row["config"] else {}
    except ValueError:
        config = {}
    values = {f"({key})": str(row[key]) for key in ("family", "parameters", "format") if row[key] is not None}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else str(key))
        else:
            values[path or "(configuration)"] = value if isinstance(value, str) else json.dumps(value)

    if config != {}:
        walk(config, "")
    return values
