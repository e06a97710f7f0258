"""The tables of the page that can be sorted, filtered and paged: one statement for the rows, one for their number.

Words are searched in a table's text columns; a filter names one column. Column names come from LISTINGS, never from a
request. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from watcher.store.engine import Store
from watcher.store.read.queue import FAILED_OF_RUN
from watcher.store.read.typed import lenient

Row = dict[str, Any]
EXPORT_MAX = 50_000  # rows of one CSV or JSON


@dataclass(frozen=True)
class Listing:
    """source: a SELECT. columns: what can be sorted by. searched: text columns. order: sorted by this at first."""

    source: str
    columns: tuple[str, ...]
    searched: tuple[str, ...]
    order: str
    down: bool = True
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListingQuery:
    """Which rows of a listing. words: all of them must occur in some searched column. equal: column -> value."""

    sort: str = ""
    down: bool | None = None
    words: str = ""
    equal: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 50
    offset: int = 0


_JOB = """SELECT j.id AS job, j.run, u.id AS run_id, j.checkpoint_id, c.path AS checkpoint, c.step, e.name AS eval_set,
  j.state, j.kind, j.reason, j.hint, j.priority, j.charged AS attempts, j.not_before, j.enqueued_at, j.claimed_at,
  j.finished_at, j.launch_id AS launch, j.order_key FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id
  JOIN eval_sets e ON e.id = j.eval_set_id LEFT JOIN runs u ON u.name = j.run"""
#: A queued job has none of its own: that of its last attempt, as `queue list` shows it.
_LAST_KIND = "(SELECT a.kind FROM attempts a WHERE a.job_id = j.id ORDER BY a.id DESC LIMIT 1) AS kind"
_JOB_COLUMNS = ("job", "run", "step", "eval_set", "checkpoint", "kind", "reason", "attempts", "enqueued_at")
_JOB_TEXTS = ("run", "checkpoint", "eval_set", "kind", "reason")

LISTINGS: dict[str, Listing] = {
    "runs": Listing(
        f"""SELECT u.id, u.name, u.dir, u.created_at, u.last_scan_at, u.rotates,
           (SELECT count(*) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS checkpoints,
           (SELECT max(c.step) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS newest_step,
           (SELECT max(c.saved_at) FROM checkpoints c WHERE c.run = u.name) AS newest_saved_at,
           (SELECT count(*) FROM results r WHERE r.run = u.name) AS results,
           (SELECT count(*) FROM jobs j WHERE j.run = u.name AND j.state = 'queued') AS queued,
           {FAILED_OF_RUN} AS failed,
           (SELECT max(a.text) FROM annotations a WHERE a.run = u.name AND a.kind = 'tag'
            AND a.checkpoint_id IS NULL) AS tag FROM runs u""",
        (
            *("name", "checkpoints", "newest_step", "newest_saved_at", "results", "queued", "failed", "created_at"),
            *("last_scan_at", "tag", "id"),
        ),
        ("name", "dir", "tag"),
        "id",
        down=False,
    ),
    "checkpoints": Listing(
        """SELECT c.id, c.run, u.id AS run_id, c.path, c.digest, c.step, c.step_source, c.format, c.family,
           c.parameters, c.size_bytes, c.tokens_seen, c.logged_val_loss, c.saved_at, c.registered_at, c.superseded,
           c.weights, c.note FROM checkpoints c LEFT JOIN runs u ON u.name = c.run""",
        ("step", "path", "run", "family", "parameters", "size_bytes", "tokens_seen", "saved_at"),
        ("path", "run", "family", "note"),
        "saved_at",
        filters=("run_id",),
    ),
    "results": Listing(
        """SELECT r.*, u.id AS run_id FROM results r LEFT JOIN runs u ON u.name = r.run""",
        (
            *("id", "run", "step", "eval_set", "loss", "ppl", "bits_per_byte", "accuracy", "accuracy_norm"),
            *("tokens", "tokens_per_second", "eval_seconds", "checkpoint", "evaluated_at"),
        ),
        ("run", "eval_set", "checkpoint", "note"),
        "id",
        filters=("run_id", "eval_set"),
    ),
    "queued": Listing(
        f"{_JOB.replace('j.kind', _LAST_KIND)} WHERE j.state = 'queued'",
        (*_JOB_COLUMNS, "priority", "not_before", "order_key"),
        _JOB_TEXTS,
        "order_key",
        filters=("run_id",),
    ),
    "failed": Listing(
        f"{_JOB} WHERE j.state = 'failed'",
        (*_JOB_COLUMNS, "finished_at"),
        (*_JOB_TEXTS, "hint"),
        "finished_at",
        filters=("run_id",),
    ),
    "files": Listing(
        "SELECT k.*, u.id AS run_id FROM candidates k LEFT JOIN runs u ON u.name = k.run",
        ("run", "path", "kind", "reason", "size_bytes", "at"),
        ("run", "path", "kind", "reason", "hint"),
        "at",
        filters=("run_id",),
    ),
    "sets": Listing(
        """SELECT e.id, e.run, u.id AS run_id, e.name, e.kind, e.suite, e.digest, e.current, e.created_at, e.spec,
           (SELECT count(*) FROM results r WHERE r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest)
           AS results FROM eval_sets e LEFT JOIN runs u ON u.name = e.run WHERE e.kind <> 'sample'""",
        ("name", "run", "kind", "suite", "current", "results", "created_at"),
        ("name", "run", "suite", "spec"),
        "name",
        down=False,
        filters=("run_id",),
    ),
    "sinks": Listing(
        """SELECT sink, state, count(*) AS n, max(done_at) AS last_done_at, max(error) AS error FROM exports
           WHERE kind NOT IN ('from', 'before') AND sink <> 'alerts' GROUP BY sink, state""",
        ("sink", "state", "n", "last_done_at", "error"),
        ("sink", "state", "error"),
        "sink",
        down=False,
    ),
    "launches": Listing(
        "SELECT * FROM launches",
        ("id", "device", "world_size", "pid", "started_at", "finished_at", "reason"),
        ("id", "device", "reason", "executor"),
        "started_at",
    ),
    "events": Listing(
        "SELECT * FROM events", ("id", "at", "name", "run", "detail"), ("name", "run", "detail"), "id"
    ),
}  # fmt: skip


def rows_of(store: Store, key: str, wanted: ListingQuery) -> tuple[list[Row], int]:
    """(the rows of this page, how many there are in all)."""
    listing = LISTINGS[key]
    where, values = _conditions(listing, wanted, "LIKE" if store.engine.dialect.name == "sqlite" else "ILIKE")
    sort = wanted.sort if wanted.sort in listing.columns else listing.order
    down = wanted.down if wanted.down is not None else (listing.down if sort == listing.order else False)
    way = "DESC" if down else "ASC"
    order = f"{sort} IS NULL, {sort} {way}" + ("" if key == "sinks" else f", {_key(key)} {way}")
    if sort in ("id", "job"):
        order = f"{sort} {way}"  # never NULL: read in the order of the key, not sorted
    query = f"SELECT * FROM ({listing.source}) AS q {where} ORDER BY {order} LIMIT :limit_ OFFSET :offset_"
    with store.read() as tx:
        rows = tx.execute(text(query), {**values, "limit_": wanted.limit, "offset_": wanted.offset}).mappings().all()
        if len(rows) < wanted.limit and (rows or not wanted.offset):
            count = wanted.offset + len(rows)  # the last page: to count them would read the whole table once more
        else:
            count = tx.execute(text(f"SELECT count(*) FROM ({listing.source}) AS q {where}"), values).scalar_one()
        return [{name: value for name, value in lenient(row).items() if name != "raw_path"} for row in rows], count


def _key(key: str) -> str:
    return "job" if key in ("queued", "failed") else "id"


def _conditions(listing: Listing, wanted: ListingQuery, like: str) -> tuple[str, dict[str, Any]]:
    """like: the operator that takes upper and lower case alike; `lower()` of each value would take twice the time."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    for number, word in enumerate(_words(wanted.words)):
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values[f"word{number}"] = f"%{escaped}%"
        any_of = " OR ".join(f"{name} {like} :word{number} ESCAPE '\\'" for name in listing.searched)
        parts.append(f"({any_of})")
    for name, value in wanted.equal.items():
        if name in listing.filters and value is not None:
            parts.append(f"{name} = :only_{name}")
            values[f"only_{name}"] = value
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


def _words(given: str) -> Sequence[str]:
    return given.split()[:8]
