"""The page of samples: for each prompt of a section, the texts of successive checkpoints side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watcher.report.samples import settings_words, shown
from watcher.web.source import Row, Source

STEPS_PER_PAGE = 8
Query = Mapping[str, str]


def samples(source: Source, query: Query) -> Row:
    """`run`: id of a run; `name`: of a section; `page`: of the checkpoints, the newest first."""
    sections = source.samples.sections()
    chosen = _chosen(sections, query)
    content: Row = {"sections": sections, "chosen": chosen, "prompts": [], "page": 1, "last_page": 1, "matching": 0}
    if chosen is None:
        return content
    run, name = chosen["run"], chosen["name"]
    checkpoints = source.samples.checkpoints(run, name)
    last_page = max(1, -(-len(checkpoints) // STEPS_PER_PAGE))
    page = min(max(1, _whole(query.get("page", "")) or 1), last_page)
    ids = [row["checkpoint_id"] for row in checkpoints[(page - 1) * STEPS_PER_PAGE : page * STEPS_PER_PAGE]]
    rows = source.samples.texts(name, ids)
    content |= {"page": page, "last_page": last_page, "matching": len(checkpoints), "prompts": _by_prompt(rows, ids)}
    return content


def _chosen(sections: list[Row], query: Query) -> Row | None:
    """The section that the query names, else the first one of the run, else the first one."""
    run_id, name = _whole(query.get("run", "")), query.get("name")
    of_run = [row for row in sections if run_id is None or row["run_id"] == run_id]
    named = [row for row in of_run if name in (None, "", row["name"])]
    return next(iter(named or of_run or sections), None)


def _by_prompt(rows: list[Row], ids: list[int]) -> list[Row]:
    """One entry for each prompt, its texts in the order of ids."""
    prompts: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (row["position"], ids.index(row["checkpoint_id"]))):
        known = prompts.setdefault(
            row["position"],
            {"position": row["position"], "prompt": shown(row["prompt"]), "settings": settings_words(row), "texts": []},
        )
        kept: dict[str, Any] = {key: row[key] for key in ("checkpoint_id", "checkpoint", "step", "weights", "tokens")}
        known["texts"].append({**kept, "note": row["note"], "ended": row["ended"], "text": shown(row["text"])})
    return list(prompts.values())


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
