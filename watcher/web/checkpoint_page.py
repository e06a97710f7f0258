"""The page of one checkpoint: results on all sets and tasks, what stands behind each, and how to reproduce it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evalcore.tasks.suite_mean import above_chance, error_of_mean, mean_of
from watcher.web import reproduce, window_spikes
from watcher.web.missing import NoSuchThing
from watcher.web.runs import annotations_of
from watcher.web.small_plot import plot
from watcher.web.source import Row, Source

ITEMS_PER_PAGE = 100
Query = Mapping[str, str]


def checkpoint(source: Source, query: Query, checkpoint_id: int) -> Row:
    row = source.pages.checkpoint(checkpoint_id)
    if row is None:
        raise NoSuchThing(f"there is no checkpoint number {checkpoint_id}")
    specs = {(each["name"], each["digest"]): each["spec"] for each in row["sets"]}
    same_model = row["model_settings"] in (None, source.model.settings_digest)
    for result in row["results"]:
        spec = specs.get((result["eval_set"], result["eval_digest"]))
        result["reproduce"] = reproduce.command(row, spec, source.model, result) if spec and same_model else None
        result |= _behind(source, result)
    done = {result["eval_set"] for result in row["results"]}
    row["measure"] = [
        {"eval_set": each["name"], "command": reproduce.command(row, each["spec"], source.model)}
        for each in row["sets"]
        if each["current"] and each["name"] not in done
    ]
    row["suites"] = _suites(row)
    row["same_model"] = same_model
    row["config"] = _object(row["config"])
    row["edit"] = source.editable
    row["samples"] = source.samples.of_checkpoint(checkpoint_id)
    return row | annotations_of(source, row["run"], checkpoint_id)


def items(source: Source, query: Query, result_id: int) -> Row:
    """Items of a task's result, in the order of the file. `only`: wrong or right; `page`."""
    result = source.panels.results_by_id([result_id]).get(result_id)
    scores = source.behind.items(result_id) if result else None
    if result is None or scores is None:
        raise NoSuchThing(f"no items are stored for a result number {result_id}")
    rows, start = [], 0
    for place in range(len(scores)):
        count = scores.n_choices[place]
        row: Row = {"item": scores.index[place], "gold": scores.gold[place], "chosen": scores.chosen[place]}
        row |= {"chosen_norm": scores.chosen_norm[place], "correct": bool(scores.correct[place])}
        row |= {"correct_norm": bool(scores.correct_norm[place]), "gold_nats": scores.gold_nats[place]}
        row["choice_nats"] = list(scores.choice_nats[start : start + count])
        rows.append(row)
        start += count
    only = query.get("only", "")
    shown = [row for row in rows if only not in ("wrong", "right") or row["correct"] == (only == "right")]
    page = max(1, int(query["page"])) if query.get("page", "").isascii() and query.get("page", "").isdigit() else 1
    last_page = max(1, -(-len(shown) // ITEMS_PER_PAGE))
    page = min(page, last_page)
    return {
        "result": result,
        "only": only,
        "count": len(rows),
        "matching": len(shown),
        "right": sum(row["correct"] for row in rows),
        "page": page,
        "last_page": last_page,
        "items": shown[(page - 1) * ITEMS_PER_PAGE : page * ITEMS_PER_PAGE],
    }


def _suites(row: Row) -> list[Row]:
    """The aggregate of each suite that this checkpoint has a result of, with its members; those missing have none.

    value, stderr: None while members are missing.
    """
    standing = {(each["eval_set"], each["eval_digest"]): each for each in row["results"] if not each["superseded"]}
    suites: dict[str, list[Row]] = {}
    for each in row["sets"]:
        if each["current"] and each["suite"] is not None:
            result = standing.get((each["name"], each["digest"]))
            member = {"name": each["name"].removeprefix(f"{each['suite']}/"), "result": result}
            if result is not None:
                baseline = result["random_baseline"]
                member["value"] = above_chance(result["accuracy"], baseline)
                member["stderr"] = above_chance(result["accuracy_stderr"], baseline, is_error=True)
            suites.setdefault(each["suite"], []).append(member)
    shown = []
    for name, members in suites.items():
        members.sort(key=lambda member: member["name"])
        done = [member for member in members if member.get("value") is not None]
        whole = len(done) == len(members)
        value = mean_of([member["value"] for member in done]) if whole else None
        stderr = error_of_mean([member["stderr"] for member in done]) if whole else None
        if done:
            shown.append({"name": name, "members": members, "done": len(done), "value": value, "stderr": stderr})
    return shown


def _behind(source: Source, result: Row) -> Row:
    """windows, positions: small plots, or None where not recorded or nowhere finite. spikes: the highest windows."""
    made: Row = {"windows": None, "positions": None, "spikes": [], "has_items": False, "recorded": {}}
    if result["task"] is not None:
        return made | {"has_items": source.behind.items(result["id"]) is not None}
    windows, positions = source.behind.windows(result["id"]), source.behind.positions(result["id"])
    if windows and (losses := _per_target(*windows)):
        known = source.behind.spikes(result["id"])
        rows = window_spikes.recorded(known) if known else window_spikes.of_windows(losses, windows[1])
        made |= {"spikes": rows, "windows": plot(losses, [row["window"] for row in rows])}
    if positions and (losses := _per_target(*positions)):
        made["positions"] = plot(losses)
    return made | {"recorded": {"windows": windows is not None, "positions": positions is not None}}


def _per_target(nats: Sequence[float], targets: Sequence[int]) -> list[float]:
    return [each / count for each, count in zip(nats, targets, strict=False) if count]


def _object(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
