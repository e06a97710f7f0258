"""A table of a page as the address asks for it: sort, words, page; its heads and links; the same rows as CSV and JSON.

Every table has parameters of its own (`TABLE.sort`, `TABLE.down`, `TABLE.q`, `TABLE.page`): a link holds the view.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from watcher.report.tables import as_csv
from watcher.store.read.listing import EXPORT_MAX, LISTINGS, ListingQuery
from watcher.web.source import Row, Source

PER_PAGE = 50
Query = Mapping[str, str]
#: table -> (column, head, is a number); a column that cannot be sorted by has an empty name.
HEADS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "runs": (
        *(("", "compare", False), ("name", "run", False), ("tag", "tags and notes", False)),
        *(("checkpoints", "checkpoints", True), ("newest_step", "newest step", True), ("results", "results", True)),
        *(("queued", "queued", True), ("failed", "failed", True), ("newest_saved_at", "saved", True)),
        ("created_at", "since", True),
    ),
    "checkpoints": (
        *(("step", "step", True), ("path", "checkpoint", False), ("run", "run", False), ("", "results", False)),
        *(("parameters", "model", False), ("size_bytes", "size", True), ("saved_at", "saved", True)),
    ),
    "results": (
        *(("run", "run", False), ("step", "step", True), ("eval_set", "set", False), ("loss", "loss ± SE", True)),
        *(("ppl", "ppl", True), ("bits_per_byte", "bits/byte", True), ("accuracy", "accuracy", True)),
        *(("tokens", "tokens", True), ("tokens_per_second", "tokens/s", True), ("checkpoint", "checkpoint", False)),
        ("evaluated_at", "evaluated", True),
    ),
    "queued": (
        *(("job", "job", False), ("run", "run", False), ("step", "step", True), ("eval_set", "set", False)),
        *(("checkpoint", "checkpoint", False), ("priority", "priority", True), ("attempts", "attempts", True)),
        *(("not_before", "next attempt", False), ("enqueued_at", "since", True)),
    ),
    "failed": (
        *(("job", "job", False), ("run", "run", False), ("step", "step", True), ("eval_set", "set", False)),
        *(("checkpoint", "checkpoint", False), ("kind", "kind", False), ("reason", "reason", False)),
        ("finished_at", "ended", True),
    ),
    "files": (
        *(("run", "run", False), ("path", "file", False), ("kind", "kind", False), ("reason", "reason", False)),
        *(("size_bytes", "size", True), ("at", "seen", True)),
    ),
    "sets": (
        *(("name", "set", False), ("run", "run", False), ("kind", "kind", False), ("", "data", False)),
        *(("", "windows", False), ("results", "results", True), ("created_at", "since", True)),
    ),
    "sinks": (
        *(("sink", "sink", False), ("state", "state", False), ("n", "rows", True)),
        *(("last_done_at", "last sent", True), ("error", "last error", False)),
    ),
    "launches": (
        *(("id", "launch", False), ("device", "device", False), ("world_size", "processes", True)),
        *(("pid", "pid", True), ("started_at", "started", True), ("", "duration", True), ("reason", "reason", False)),
    ),
    "events": (("id", "when", False), ("name", "event", False), ("run", "run", False), ("detail", "detail", False)),
}  # fmt: skip


def table_of(source: Source, key: str, query: Query, title: str, **equal: Any) -> Row:
    """rows: of this page. What the template needs besides: heads with links, words, page numbers, links to exports."""
    wanted, page = _wanted(key, query, equal)
    rows, total = source.listing(key, wanted)
    last_page = max(1, -(-total // PER_PAGE))
    if page > last_page:
        rows, total = source.listing(key, _wanted(key, {**query, f"{key}.page": str(last_page)}, equal)[0])
        page = last_page
    return {
        "key": key,
        "title": title,
        "rows": rows,
        "total": total,
        "words": wanted.words,
        "page": page,
        "last_page": last_page,
        "heads": [_head(key, query, wanted, *head) for head in HEADS[key]],
        "previous": _link(query, key, page=page - 1) if page > 1 else None,
        "next": _link(query, key, page=page + 1) if page < last_page else None,
        "csv": _export(query, key, "csv"),
        "json": _export(query, key, "json"),
        "hidden": [(name, value) for name, value in query.items() if name not in (f"{key}.q", f"{key}.page")],
    }


def export(source: Source, key: str, query: Query, **equal: Any) -> list[Row]:
    """All rows of the table as it is sorted and filtered, 50,000 at most."""
    wanted, _ = _wanted(key, query, equal)
    return source.listing(key, ListingQuery(wanted.sort, wanted.down, wanted.words, wanted.equal, EXPORT_MAX, 0))[0]


def csv_text(rows: list[Row]) -> str:
    return as_csv(list(rows[0]), rows) + "\n" if rows else "\n"


def _wanted(key: str, query: Query, equal: Mapping[str, Any]) -> tuple[ListingQuery, int]:
    given = {name: query.get(f"{key}.{name}", "") for name in ("sort", "down", "q", "page")}
    page = max(1, int(given["page"])) if given["page"].isascii() and given["page"].isdigit() else 1
    page = min(page, 10**9)
    down = {"1": True, "0": False}.get(given["down"])
    sort = given["sort"] if given["sort"] in LISTINGS[key].columns else LISTINGS[key].order
    if down is None:
        down = LISTINGS[key].down if sort == LISTINGS[key].order else False
    return ListingQuery(sort, down, given["q"][:200], equal, PER_PAGE, (page - 1) * PER_PAGE), page


def _head(key: str, query: Query, wanted: ListingQuery, column: str, words: str, number: bool) -> Row:
    if not column:
        return {"words": words, "number": number, "href": None, "aria": None}
    here = wanted.sort == column
    down = "0" if here and wanted.down else "1" if here else ("1" if number else "0")
    aria = ("descending" if wanted.down else "ascending") if here else None
    return {"words": words, "number": number, "href": _link(query, key, sort=column, down=down, page=1), "aria": aria}


def _link(query: Query, key: str, **changes: Any) -> str:
    kept = {name: value for name, value in query.items() if name != "format"}
    kept |= {f"{key}.{name}": str(value) for name, value in changes.items()}
    if kept.get(f"{key}.page") == "1":
        del kept[f"{key}.page"]
    return f"?{urlencode(kept)}#{key}"


def _export(query: Query, key: str, form: str) -> str:
    return "?" + urlencode({**query, "table": key, "format": form})
