"""The outbox `exports`: which rows each sink has still to get. It follows from the tables, never from memory.

A new sink starts at the newest result (kind `from`) and gets what comes after it; `ckptwatch export` sends the others.
`sweep` finds every result, recorded or copied, exactly once: it looks for results without a row in `exports`, because
on a server a transaction with a lower id can commit later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, update

from watcher.domain.metrics import Metric
from watcher.store.read.typed import lenient
from watcher.store.schema import exports, results

Row = dict[str, Any]
#: How far below the newest id a transaction can still be open. A larger number only costs time.
OPEN_IDS_MAX = 10_000
#: A sample that fails raises no alert.
NO_SAMPLE = "eval_set_id NOT IN (SELECT id FROM eval_sets WHERE kind = 'sample')"
#: The tables behind each kind of failure.
_FAILURES = {
    "failure": ("jobs", f"state = 'failed' AND {NO_SAMPLE}", "finished_at"),
    "file": ("candidates", "final = 1", "at"),
}
_INSERT = """
    INSERT INTO exports (sink, kind, subject_id, state, tries, enqueued_at, done_at)
    SELECT :sink, :kind, s.id, :state, 0, :at, CASE WHEN :state = 'done' THEN :at END FROM {source}
"""


@dataclass(frozen=True)
class Export:
    """One row for a sink: its id, how often it was tried, and the subject as a flat dict."""

    id: int
    kind: str
    subject_id: int
    tries: int
    subject: Row


def adopt(tx: Connection, sinks: Iterable[str], at: str, failures: Sequence[str] = ()) -> None:
    """Register new sinks: they get what comes from now on. failures: those among them that get failures too."""
    for sink in sinks:
        known = tx.execute(text("SELECT 1 FROM exports WHERE sink = :sink LIMIT 1"), {"sink": sink}).first()
        if known is not None:
            continue
        start = tx.execute(text("SELECT coalesce(max(id), 0) FROM results")).scalar_one()
        if tx.dialect.name != "sqlite":  # a lower id may commit after this: name those that are there now
            start = max(0, start - OPEN_IDS_MAX)
            values = {"sink": sink, "kind": "before", "state": "done", "at": at}
            tx.execute(text(_INSERT.format(source=f"results s WHERE s.id > {start:d}")), values)
        mark = {"sink": sink, "kind": "from", "subject_id": start, "state": "done", "enqueued_at": at, "done_at": at}
        tx.execute(exports.insert().values(mark))
        if sink in failures:
            for kind in _FAILURES:
                _enqueue_failures(tx, sink, kind, "done", at)


def signature(tx: Connection) -> tuple[Any, ...]:
    """Changes whenever `sweep` could find something: to be asked before a write transaction is begun."""
    # On a server a result with a lower id can commit after one with a higher: its number changes, the maximum does not.
    late = f"(SELECT count(*) FROM results WHERE id > (SELECT max(id) FROM results) - {OPEN_IDS_MAX:d})"
    query = f"""SELECT (SELECT max(id) FROM results), {late if tx.dialect.name != "sqlite" else 0},
                      (SELECT count(*) FROM jobs WHERE state = 'failed'),
                      (SELECT max(finished_at) FROM jobs WHERE state = 'failed'),
                      (SELECT max(at) FROM candidates WHERE final = 1)"""
    return tuple(tx.execute(text(query)).one())


def sweep(tx: Connection, sinks: Iterable[str], at: str, failures: Sequence[str] = ()) -> int:
    """Enqueue every result that a sink has no row for, and for `failures` every failure. Returns how many."""
    added = 0
    for sink in sinks:
        bounds = """SELECT (SELECT max(subject_id) FROM exports WHERE sink = :sink AND kind = 'from') AS first,
                           (SELECT max(subject_id) FROM exports WHERE sink = :sink AND kind = 'result') AS newest"""
        first, newest = tx.execute(text(bounds), {"sink": sink}).one()
        if first is not None:
            lowest = max(first, (newest or 0) - OPEN_IDS_MAX)
            known = "SELECT 1 FROM exports x WHERE x.sink = :sink AND x.subject_id = s.id"
            query = _INSERT.format(
                source=f"""results s WHERE s.id > {lowest:d} AND NOT EXISTS ({known} AND x.kind = 'result')
                           AND NOT EXISTS ({known} AND x.kind = 'before') ORDER BY s.id"""
            )
            values = {"sink": sink, "kind": "result", "state": "pending", "at": at}
            added += tx.execute(text(f"{query} ON CONFLICT DO NOTHING"), values).rowcount
        if sink in failures:
            added += sum(_enqueue_failures(tx, sink, kind, "pending", at) for kind in _FAILURES)
    return added


def enqueue(tx: Connection, sinks: Sequence[str], kind: str, subject_id: int, at: str) -> None:
    """One subject for several sinks, in the caller's transaction; a second time changes nothing."""
    for sink in sinks:
        query = """INSERT INTO exports (sink, kind, subject_id, state, tries, enqueued_at)
                   VALUES (:sink, :kind, :subject, 'pending', 0, :at) ON CONFLICT DO NOTHING"""
        tx.execute(text(query), {"sink": sink, "kind": kind, "subject": subject_id, "at": at})


def enqueue_once(tx: Connection, sink: str, kind: str, subject_id: int, at: str) -> bool:
    """Record, as a row that is done, that this alert was raised. False where it had been already."""
    query = """INSERT INTO exports (sink, kind, subject_id, state, tries, enqueued_at, done_at)
               VALUES (:sink, :kind, :subject, 'done', 0, :at, :at) ON CONFLICT DO NOTHING"""
    return tx.execute(text(query), {"sink": sink, "kind": kind, "subject": subject_id, "at": at}).rowcount == 1


def send_again(tx: Connection, sink: str, newest: int) -> int:
    """Make the sink's newest sent results pending, as tried once: they are compared with what the sink has."""
    last = "SELECT id FROM exports WHERE sink = :sink AND kind = 'result' AND state = 'done' ORDER BY id DESC LIMIT :n"
    query = f"""UPDATE exports SET state = 'pending', tries = 1, not_before = NULL, done_at = NULL
                WHERE sink = :sink AND id IN (SELECT id FROM ({last}) AS newest)"""
    return tx.execute(text(query), {"sink": sink, "n": newest}).rowcount


def due(tx: Connection, sinks: Sequence[str], at: str) -> dict[str, int]:
    """Sink -> how many rows may be sent now. Only of the sinks named: others may belong to an older configuration."""
    query = """SELECT sink, count(*) FROM exports
               WHERE state = 'pending' AND (not_before IS NULL OR not_before <= :at) GROUP BY sink"""
    return {row[0]: row[1] for row in tx.execute(text(query), {"at": at}) if row[0] in sinks}


def pending(tx: Connection, sink: str, limit: int, at: str) -> list[Export]:
    """What to send next, oldest first, with its subject. A deleted subject is left out."""
    query = """SELECT * FROM exports WHERE sink = :sink AND state = 'pending'
               AND (not_before IS NULL OR not_before <= :at) ORDER BY id LIMIT :limit"""
    rows = tx.execute(text(query), {"sink": sink, "limit": limit, "at": at}).mappings().all()
    subjects = {kind: _subjects(tx, kind, [r["subject_id"] for r in rows if r["kind"] == kind]) for kind in _SUBJECT}
    ready = []
    for row in rows:
        subject = subjects.get(row["kind"], {}).get(row["subject_id"])
        if subject is not None:
            ready.append(Export(row["id"], row["kind"], row["subject_id"], row["tries"], subject))
    return ready


def mark_done(tx: Connection, ids: Sequence[int], at: str) -> int:
    """Rows that are still pending become done. Doing it again changes nothing."""
    where = (exports.c.id.in_(ids), exports.c.state == "pending")
    return tx.execute(update(exports).where(*where).values(state="done", done_at=at, error=None)).rowcount


def mark_failed(tx: Connection, ids: Sequence[int], error: str, not_before: str | None) -> int:
    """Count a try and wait until not_before; None gives the rows up."""
    values: Row = {"tries": exports.c.tries + 1, "error": error[:2000], "not_before": not_before}
    if not_before is None:
        values["state"] = "gave_up"
    return tx.execute(
        update(exports).where(exports.c.id.in_(ids), exports.c.state == "pending").values(values)
    ).rowcount


def tries_of(tx: Connection, ids: Sequence[int]) -> int:
    """The most that any of these rows was tried."""
    return tx.execute(select(func.coalesce(func.max(exports.c.tries), 0)).where(exports.c.id.in_(ids))).scalar_one()


def add_event(tx: Connection, name: str, run: str | None, detail: str, at: str) -> int:
    """A row in `events`; detail: JSON. Returns its id."""
    query = "INSERT INTO events (at, name, run, detail) VALUES (:at, :name, :run, :detail) RETURNING id"
    return tx.execute(text(query), {"at": at, "name": name, "run": run, "detail": detail}).scalar_one()


def best_before(tx: Connection, row: Row, metric: Metric, *, lower_step: bool) -> Row | None:
    """The best finite result by a metric that was recorded before this row on the same run and set.

    lower_step: of lower steps only.
    """
    column = results.c[metric.value].name
    where = "AND step < :step" if lower_step else ""
    query = f"""SELECT * FROM results WHERE run = :run AND eval_set = :eval_set AND eval_digest = :eval_digest
                AND finite = 1 AND superseded = 0
                AND coalesce(weights, '') = coalesce(:weights, '') AND id < :id {where} AND {column} IS NOT NULL
                ORDER BY {column} {"DESC" if metric.higher_is_better else "ASC"}, step LIMIT 1"""
    if lower_step and row["step"] is None:
        return None
    values = {key: row[key] for key in _KEYS if lower_step or key != "step"}
    best = tx.execute(text(query), values).mappings().first()
    return dict(best) if best is not None else None


_KEYS = ("run", "eval_set", "eval_digest", "weights", "id", "step")


def place_of(tx: Connection, row: Row) -> Row | None:
    """Where a result's checkpoint is: the run's folder, the name below it, the fingerprint. None: it has no file."""
    query = """SELECT u.dir, c.path, c.raw_path, c.size_bytes, c.mtime_ns FROM checkpoints c
               JOIN runs u ON u.name = c.run
               WHERE c.run = :run AND c.path = :checkpoint AND c.digest = :checkpoint_digest AND c.weights IS NULL"""
    keys = {key: row[key] for key in ("run", "checkpoint", "checkpoint_digest")}
    place = tx.execute(text(query), keys).mappings().first()
    return dict(place) if place is not None else None


def last_saves(tx: Connection, run: str, limit: int = 20) -> list[Row]:
    """The newest checkpoints of a run, oldest first: id, path, saved_at."""
    query = """SELECT id, path, saved_at FROM checkpoints WHERE run = :run AND weights IS NULL
               ORDER BY saved_at DESC, id DESC LIMIT :limit"""
    newest_first = tx.execute(text(query), {"run": run, "limit": limit}).mappings().all()
    return [dict(row) for row in reversed(newest_first)]


def oldest_waiting(tx: Connection, runs: Sequence[str]) -> Row | None:
    """The job of these runs that has waited longest; jobs of a run that is no longer watched do not count."""
    query = f"""SELECT j.id, j.run, c.path AS checkpoint, j.enqueued_at FROM jobs j
               JOIN checkpoints c ON c.id = j.checkpoint_id WHERE j.state = 'queued' AND j.run IN :runs
               AND {NO_SAMPLE}
               ORDER BY j.enqueued_at LIMIT 1"""
    of_runs = text(query).bindparams(bindparam("runs", expanding=True))
    job = tx.execute(of_runs, {"runs": list(runs)}).mappings().first()
    return dict(job) if job is not None else None


_SUBJECT = {
    "result": "SELECT * FROM results WHERE id IN ({ids})",
    "failure": """SELECT j.id, j.run, c.path AS checkpoint, c.step, e.name AS eval_set, j.kind, j.reason, j.hint,
                         j.charged AS attempts, j.finished_at AS at
                  FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
                  WHERE j.id IN ({ids})""",
    "file": """SELECT id, run, path AS checkpoint, NULL AS step, NULL AS eval_set, kind, reason, hint,
                      0 AS attempts, at FROM candidates WHERE id IN ({ids})""",
    "event": "SELECT id, at, name, run, detail FROM events WHERE id IN ({ids})",
}


def _subjects(tx: Connection, kind: str, ids: list[int]) -> dict[int, Row]:
    if not ids:
        return {}
    query = _SUBJECT[kind].format(ids=",".join(str(int(number)) for number in ids))
    return {row["id"]: lenient(row) for row in tx.execute(text(query)).mappings()}


def _enqueue_failures(tx: Connection, sink: str, kind: str, state: str, at: str) -> int:
    """A row for each failure that has none; one that failed again is pending again."""
    table, where, when = _FAILURES[kind]
    values = {"sink": sink, "kind": kind, "state": state, "at": at}
    none_yet = "NOT EXISTS (SELECT 1 FROM exports x WHERE x.sink = :sink AND x.kind = :kind AND x.subject_id = s.id)"
    new = tx.execute(text(_INSERT.format(source=f"{table} s WHERE s.{where} AND {none_yet}")), values).rowcount
    again = f"""UPDATE exports SET state = 'pending', tries = 0, error = NULL, not_before = NULL, enqueued_at = :at
                WHERE sink = :sink AND kind = :kind AND state <> 'pending' AND EXISTS (
                    SELECT 1 FROM {table} s WHERE s.id = exports.subject_id AND s.{where}
                    AND s.{when} > exports.enqueued_at)"""
    return new + tx.execute(text(again), {"sink": sink, "kind": kind, "at": at}).rowcount
