"""Verbs on eval sets: make definitions current, and enqueue the cells that are missing for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, and_, func, insert, select, update

from evalcore.messages import EvalSetSpec, to_json
from watcher.domain.job import SAMPLE_PRIORITY, State
from watcher.errors import StoreUnavailable
from watcher.store.engine import Store
from watcher.store.schema import average_members, averages, checkpoints, eval_sets, jobs, results, runs
from watcher.store.write.runs import run_lock

SET_CHANGED = "the set was changed or is no longer asked for"


@dataclass(frozen=True)
class EvalSetRow:
    """priority: that its jobs begin with."""

    id: int
    name: str
    digest: str
    priority: int = 0


def adopt_eval_sets(
    store: Store, run: str, wanted: Sequence[tuple[EvalSetSpec, str]], now: str, *, whole: bool = True
) -> list[EvalSetRow]:
    """Make (spec, digest) pairs the current definitions of their names; the results of another one leave the curves.

    What failed on an older definition (a tokenizer that was not there, say) is cancelled: it is no failure of today's.
    whole: these are all sets of the run now: the cells that are missing for them are enqueued, and what waits for any
    other set, or failed on it, is cancelled. Without it (`eval`) nothing else changes, and a definition with results
    stays the current one of its name: see `make_measured_current`.
    """
    over = {"state": State.CANCELLED, "kind": "superseded", "reason": SET_CHANGED, "hint": None, "finished_at": now}
    with store.write(alone=run_lock(run)) as tx:
        rows = [_adopt(tx, run, spec, digest, now, whole) for spec, digest in wanted]
        _leave_suites(tx, run, [row.id for row in rows], {spec.suite for spec, _ in wanted}, whole)
        older = select(eval_sets.c.id).where(eval_sets.c.run == run, eval_sets.c.current == 0)
        tx.execute(update(jobs).where(jobs.c.state == State.FAILED, jobs.c.eval_set_id.in_(older)).values(over))
        if whole:
            gone = (jobs.c.run == run, jobs.c.eval_set_id.not_in([row.id for row in rows]))
            ended = jobs.c.state.in_((State.QUEUED, State.FAILED))
            tx.execute(update(jobs).where(ended, *gone).values(over))
            _enqueue_missing_cells(tx, run, rows, now)
        return rows


def files_of_sets(store: Store) -> dict[str, set[str]]:
    """Every name that a set of any run ever had -> the names of its files, without their folders."""
    files: dict[str, set[str]] = {}
    with store.read() as tx:
        for name, spec in tx.execute(select(eval_sets.c.name, eval_sets.c.spec)):
            files.setdefault(name, set()).update(path.rpartition("/")[2] for path in json.loads(spec).get("paths", ()))
    return files


def largest_ids(reference: Column[int], table: Table) -> Select[Any]:
    """For `unused_id`: the largest id of the table that a job names in the column `reference`, and that of its rows."""
    return select(select(func.max(reference)).scalar_subquery(), select(func.max(table.c.id)).scalar_subquery())


def unused_id(tx: Connection, largest: Select[Any]) -> dict[str, int]:
    """The id of a new row where SQLite would take one that jobs of a row deleted by hand still name; else nothing."""
    if tx.dialect.name != "sqlite":
        return {}
    row = tx.execute(largest).one()
    named, present = row[0] or 0, row[1] or 0
    return {"id": named + 1} if named > present else {}


def demand_eval_sets(store: Store, rows: Sequence[EvalSetRow]) -> None:
    """Raise StoreUnavailable where one of the sets is no longer in the database: its row was deleted by hand."""
    with store.read() as tx:
        present = set(tx.execute(select(eval_sets.c.id).where(eval_sets.c.id.in_([row.id for row in rows]))).scalars())
    if missing := [row.name for row in rows if row.id not in present]:
        raise StoreUnavailable(
            f"the row of eval set {missing[0]!r} was deleted from the table eval_sets",
            hint="restart ckptwatch: it writes the rows of its sets again, and registers what came meanwhile",
        )


def make_measured_current(store: Store, run: str, set_ids: Sequence[int]) -> list[str]:
    """Of these sets of an `eval`, make those current that have a result; the names of those that stay beside a curve.

    A run that is watched keeps its own definitions: a quick estimate does not take its curve away.
    """
    beside = []
    with store.write(alone=run_lock(run)) as tx:
        watched = tx.execute(select(runs.c.last_scan_at).where(runs.c.name == run)).scalar() is not None
        for row in tx.execute(select(eval_sets).where(eval_sets.c.id.in_(set_ids), eval_sets.c.current == 0)).all():
            if not _is_measured(tx, run, row.name, row.digest):
                continue
            if watched:
                beside.append(row.name)
                continue
            same_name = and_(eval_sets.c.run == run, eval_sets.c.name == row.name)
            tx.execute(update(eval_sets).where(same_name).values(current=0))
            tx.execute(update(eval_sets).where(eval_sets.c.id == row.id).values(current=1))
    return beside


def _is_measured(tx: Connection, run: str, name: str, digest: str) -> bool:
    of_set = (results.c.run == run, results.c.eval_set == name, results.c.eval_digest == digest)
    return tx.execute(select(results.c.id).where(*of_set).limit(1)).first() is not None


def _adopt(tx: Connection, run: str, spec: EvalSetSpec, digest: str, now: str, whole: bool) -> EvalSetRow:
    name = and_(eval_sets.c.run == run, eval_sets.c.name == spec.name)
    other = tx.execute(select(eval_sets).where(name, eval_sets.c.digest != digest, eval_sets.c.current == 1)).first()
    stays = not whole and other is not None and _is_measured(tx, run, spec.name, other.digest)
    if not stays:
        tx.execute(update(eval_sets).where(name, eval_sets.c.digest != digest).values(current=0))
    current = 0 if stays else 1
    known = tx.execute(select(eval_sets.c.id).where(name, eval_sets.c.digest == digest)).scalar()
    if known is None:
        values = {"run": run, "name": spec.name, "digest": digest, "current": current, **_described(spec)}
        values |= unused_id(tx, largest_ids(jobs.c.eval_set_id, eval_sets))
        known = tx.execute(insert(eval_sets).values(created_at=now, **values).returning(eval_sets.c.id)).scalar_one()
    else:  # the same content may lie elsewhere now
        tx.execute(update(eval_sets).where(eval_sets.c.id == known).values(current=current, **_described(spec)))
    return EvalSetRow(known, spec.name, digest, SAMPLE_PRIORITY if spec.kind == "sample" else 0)


def _described(spec: EvalSetSpec) -> dict[str, Any]:
    return {"spec": to_json(spec), "kind": spec.kind, "suite": spec.suite}


def _leave_suites(tx: Connection, run: str, kept: Sequence[int], suites: set[str | None], whole: bool) -> None:
    """A set that a suite no longer has is no member that is missing: it keeps its results and leaves the suite."""
    sets = (eval_sets.c.run == run, eval_sets.c.suite.is_not(None), eval_sets.c.id.not_in(kept))
    of_suites = () if whole else (eval_sets.c.suite.in_([suite for suite in suites if suite is not None]),)
    tx.execute(update(eval_sets).where(*sets, *of_suites).values(suite=None))


def _enqueue_missing_cells(tx: Connection, run: str, rows: Sequence[EvalSetRow], now: str) -> None:
    """Every registered checkpoint that still stands, times every current set that its model has no job for.

    A mean of which a member can no longer be read gets none.
    """
    gone = select(checkpoints.c.id).where(checkpoints.c.superseded == 1, checkpoints.c.spool_path.is_(None))
    beyond = (
        select(averages.c.checkpoint_id)
        .join(average_members, average_members.c.average_id == averages.c.id)
        .where(averages.c.checkpoint_id.is_not(None), average_members.c.checkpoint_id.in_(gone))
    )
    for row in rows:
        has = (
            select(jobs.c.id)
            .where(jobs.c.checkpoint_id == checkpoints.c.id, jobs.c.eval_set_id == row.id)
            .where(jobs.c.model_digest == checkpoints.c.model_digest)
            .exists()
        )
        skipped = select(jobs.c.checkpoint_id).where(jobs.c.run == run, jobs.c.kind == "skipped")
        missing = tx.execute(
            select(checkpoints.c.id, checkpoints.c.mtime_ns, checkpoints.c.model_digest).where(
                checkpoints.c.run == run,
                checkpoints.c.superseded == 0,
                ~has,
                checkpoints.c.id.not_in(skipped),
                checkpoints.c.id.not_in(beyond),
            )
        ).all()
        if missing:
            same = {"eval_set_id": row.id, "run": run, "state": State.QUEUED, "enqueued_at": now}
            same |= {"priority": row.priority}
            values = [
                {"checkpoint_id": m.id, "order_key": m.mtime_ns, "model_digest": m.model_digest, **same}
                for m in missing
            ]
            tx.execute(insert(jobs), values)
        back = (jobs.c.eval_set_id == row.id, jobs.c.kind == "superseded", jobs.c.reason == SET_CHANGED)
        fresh = {"kind": None, "reason": None, "finished_at": None, "charged": 0, "orphaned": 0, "not_before": None}
        tx.execute(update(jobs).where(*back).values(state=State.QUEUED, **fresh))
