"""Questions that readers ask: results, curves, windows, queue, launches. Never writes; watcher/report shapes."""

from __future__ import annotations

import sys
import zlib
from array import array
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select

from watcher.store.engine import Store
from watcher.store.read.typed import result_dicts
from watcher.store.schema import attempts, candidates, checkpoints, eval_sets, jobs, launches, results, runs, windows

RESULT_COLUMNS = tuple(column.name for column in results.columns)
Row = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which results. steps: first and last, both included; None is open. standing: only what curves are made of."""

    run: str | None = None
    eval_set: str | None = None
    steps: tuple[int | None, int | None] = (None, None)
    standing: bool = False


def result_rows(store: Store, wanted: Wanted = Wanted()) -> list[Row]:
    """Rows of `results` with exactly its columns, ordered by run, set, step (rows without a step last), time."""
    r = results.c
    query = select(results)
    if wanted.standing:
        now = and_(eval_sets.c.run == r.run, eval_sets.c.name == r.eval_set, eval_sets.c.digest == r.eval_digest)
        query = query.join(eval_sets, and_(now, eval_sets.c.current == 1)).where(r.superseded == 0)
    if wanted.run is not None:
        query = query.where(r.run == wanted.run)
    if wanted.eval_set is not None:
        query = query.where(r.eval_set == wanted.eval_set)
    first, last = wanted.steps
    if first is not None:
        query = query.where(r.step >= first)
    if last is not None:
        query = query.where(r.step <= last)
    query = query.order_by(r.run, r.eval_set, r.step.is_(None), r.step, r.saved_at, r.id)
    with store.read() as tx:
        return result_dicts(store, tx.execute(query).mappings())


def current_definitions(store: Store) -> set[tuple[str, str, str]]:
    """(run, name, digest) of every eval set as it is defined now."""
    query = select(eval_sets.c.run, eval_sets.c.name, eval_sets.c.digest).where(eval_sets.c.current == 1)
    with store.read() as tx:
        return {tuple(row) for row in tx.execute(query)}


def known_names(store: Store) -> tuple[list[str], list[str]]:
    """Every run and every eval set that the database has heard of."""
    with store.read() as tx:
        named = set(tx.execute(select(runs.c.name)).scalars()) | set(
            tx.execute(select(results.c.run).distinct()).scalars()
        )
        sets = set(tx.execute(select(eval_sets.c.name)).scalars())
        sets |= set(tx.execute(select(results.c.eval_set).distinct()).scalars())
    return sorted(named), sorted(sets)


def known_steps(store: Store) -> list[int]:
    with store.read() as tx:
        query = select(results.c.step).where(results.c.step.is_not(None)).distinct().order_by(results.c.step)
        return list(tx.execute(query).scalars())


class KeptWindows:
    """Result id -> (nats as float64, targets as uint32), one entry per window; read when asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, tuple[array, array] | None] = {}

    def get(self, result_id: int) -> tuple[array, array] | None:
        """None where no windows are kept for this result."""
        if result_id not in self._known:
            with self._store.read() as tx:
                row = tx.execute(select(windows).where(windows.c.result_id == result_id)).first()
            if len(self._known) >= 64:
                del self._known[next(iter(self._known))]
            self._known[result_id] = (_unpacked("d", row.nats), _unpacked("I", row.targets)) if row else None
        return self._known[result_id]


def queue_counts(store: Store) -> dict[str, int]:
    """Jobs by state."""
    with store.read() as tx:
        return {row[0]: row[1] for row in tx.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))}


def oldest_queued_at(store: Store) -> str | None:
    with store.read() as tx:
        return tx.execute(select(func.min(jobs.c.enqueued_at)).where(jobs.c.state == "queued")).scalar()


def running_jobs(store: Store) -> list[Row]:
    """What is evaluated now: job, names, the launch's folder and device, and the open attempt."""
    query = (
        select(
            jobs.c.id.label("job"),
            jobs.c.run,
            checkpoints.c.path.label("checkpoint"),
            checkpoints.c.step,
            eval_sets.c.name.label("eval_set"),
            jobs.c.claimed_at,
            jobs.c.launch_id.label("launch"),
            launches.c.folder,
            launches.c.device,
            attempts.c.id.label("attempt"),
        )
        .select_from(
            jobs.join(checkpoints)
            .join(eval_sets)
            .outerjoin(launches, launches.c.id == jobs.c.launch_id)
            .outerjoin(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.finished_at.is_(None)))
        )
        .where(jobs.c.state == "running")
        .order_by(jobs.c.claimed_at, jobs.c.id)
    )
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def last_results(store: Store, count: int) -> list[Row]:
    """The newest results, newest first."""
    query = select(results).order_by(results.c.evaluated_at.desc(), results.c.id.desc()).limit(count)
    with store.read() as tx:
        return result_dicts(store, tx.execute(query).mappings())


def failure_count(store: Store) -> int:
    """Failed jobs and files with a final verdict: the rows of the view `failures`."""
    with store.read() as tx:
        failed = tx.execute(select(func.count()).select_from(jobs).where(jobs.c.state == "failed")).scalar_one()
        irregular = select(func.count()).select_from(candidates).where(candidates.c.final == 1)
        return failed + tx.execute(irregular).scalar_one()


def job_launch(store: Store, job: int) -> Row | None:
    """A job, its names, and the folder of its newest launch (None where it was never launched)."""
    query = (
        select(
            *(jobs.c.id.label("job"), jobs.c.run, checkpoints.c.path.label("checkpoint"), checkpoints.c.step),
            *(eval_sets.c.name.label("eval_set"), jobs.c.state, jobs.c.kind, jobs.c.reason, jobs.c.hint),
            *(jobs.c.charged.label("attempts"), launches.c.id.label("launch"), launches.c.folder),
        )
        .select_from(
            jobs.join(checkpoints)
            .join(eval_sets)
            .outerjoin(attempts, attempts.c.job_id == jobs.c.id)
            .outerjoin(launches, launches.c.id == attempts.c.launch_id)
        )
        .where(jobs.c.id == job)
        .order_by(attempts.c.id.desc())
        .limit(1)
    )
    with store.read() as tx:
        row = tx.execute(query).mappings().first()
        return dict(row) if row is not None else None


def job_ids(store: Store) -> list[int]:
    with store.read() as tx:
        return list(tx.execute(select(jobs.c.id).order_by(jobs.c.id)).scalars())


def prunable_facts(store: Store) -> list[Row]:
    """Every standing checkpoint with its run's folder, fingerprint, unfinished jobs, and whether it has a result."""
    unfinished = (
        select(func.count())
        .select_from(jobs)
        .where(jobs.c.checkpoint_id == checkpoints.c.id, jobs.c.state.in_(("queued", "running")))
        .scalar_subquery()
    )
    measured = (
        select(func.count())
        .select_from(results)
        .where(
            results.c.run == checkpoints.c.run,
            results.c.checkpoint == checkpoints.c.path,
            results.c.checkpoint_digest == checkpoints.c.digest,
        )
        .scalar_subquery()
    )
    query = (
        select(checkpoints, runs.c.dir, unfinished.label("unfinished"), measured.label("measured"))
        .select_from(checkpoints.join(runs, runs.c.name == checkpoints.c.run))
        .where(checkpoints.c.superseded == 0)
        .order_by(checkpoints.c.run, checkpoints.c.step.is_(None), checkpoints.c.step, checkpoints.c.saved_at)
    )
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def _unpacked(kind: str, blob: bytes) -> array:
    """The inverse of what `record` packs: deflated, little-endian."""
    values = array(kind)
    values.frombytes(zlib.decompress(blob))
    if sys.byteorder == "big":
        values.byteswap()
    return values
