"""The table of runs, and the page of one run: numbers by set, configuration, notes and tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from watcher.domain.metrics import headline
from watcher.report.palette import place_of
from watcher.web.comparing import side_by_side
from watcher.web.missing import NoSuchThing
from watcher.web.source import Row, Source
from watcher.web.tables import table_of

Query = Mapping[str, str]


def runs(source: Source, query: Query) -> Row:
    table = table_of(source, "runs", query, "Runs")
    known = _annotations(source, [row["name"] for row in table["rows"]])
    for row in table["rows"]:
        row["colour"], row["dash"] = place_of(row["id"])
        row |= known.get((row["name"], None), {"tags": [], "notes": []})
    return {"tables": {"runs": table}}


def run(source: Source, query: Query, run_id: int) -> Row:
    row = source.runs.run(run_id)
    if row is None:
        raise NoSuchThing(f"there is no run number {run_id}")
    cells = [cell for cell in source.panels.cells() if cell["run_id"] == run_id]
    source.refresh_curves()
    source.curves.compute_bests([(cell, None) for cell in cells], 0.5, strict=True)
    bests = {cell["eval_set"]: source.curves.known_best(cell)[1] for cell in cells}
    ids = [cell[key] for cell in cells for key in ("observed", "saved", "lowest") if cell[key] is not None]
    shown = source.panels.results_by_id(
        [*ids, *(row["id"] for best in bests.values() if best for row in (best.row, best.lowest))]
    )
    sets = []
    for cell in cells:
        best = bests[cell["eval_set"]]
        each: Row = {"eval_set": cell["eval_set"], "newest": shown.get(cell["observed"] or cell["saved"] or 0)}
        each |= {"lowest": shown.get(cell["lowest"] or 0), "best": shown.get(best.row["id"]) if best else None}
        by = headline(cell)
        if best:
            each["lowest"] = shown.get(best.lowest["id"]) or each["lowest"]
        values = {key: by.value_of(each[key]) if each[key] else None for key in ("newest", "best", "lowest")}
        error = by.error_of(each["newest"]) if each["newest"] else None
        each |= {"metric": by.label.split(" (")[0], "values": values, "stderr": error}
        sets.append(each)
    config = source.runs.config_of(row["name"])
    known = _annotations(source, [row["name"]])
    colour, dash = place_of(run_id)
    return {
        "run": {**row, "ignored": _object(row["ignored"])},
        "colour": colour,
        "dash": dash,
        "sets": sets,
        "config": side_by_side({"value": config}) if config else None,
        "newest": config,
        "others": [each["name"] for each in source.pages.run_names() if each["id"] != run_id],
        "edit": source.editable,
        **known.get((row["name"], None), {"tags": [], "notes": []}),
    }


def _annotations(source: Source, names: list[str]) -> dict[tuple[str, int | None], Row]:
    """(run, checkpoint or None) -> its tags and notes."""
    found: dict[tuple[str, int | None], Row] = {}
    for row in source.runs.annotations(names):
        one = found.setdefault((row["run"], row["checkpoint_id"]), {"tags": [], "notes": []})
        one["tags" if row["kind"] == "tag" else "notes"].append({"id": row["id"], "text": row["text"], "at": row["at"]})
    return found


def annotations_of(source: Source, run: str, checkpoint_id: int) -> Row:
    """Of one checkpoint."""
    return _annotations(source, [run]).get((run, checkpoint_id), {"tags": [], "notes": []})


def _object(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
