"""Verbs on what was found: runs, eval sets, candidates, checkpoints, and the jobs that a checkpoint gives rise to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from evalcore.messages import EvalSetSpec, from_json, to_json
from watcher.domain.checkpoint import Fingerprint
from watcher.domain.job import State
from watcher.domain.timestamps import iso
from watcher.store.engine import Store
from watcher.store.schema import candidates, checkpoints, eval_sets, jobs, runs
from watcher.store.write import copies

SET_CHANGED = "the set was changed or is no longer asked for"

# Statements of every checkpoint, built once: to put them together took nine tenths of registering it.
_FORGET_CANDIDATE = candidates.delete().where(
    candidates.c.run == bindparam("of_run"), candidates.c.path == bindparam("at_path")
)
_VERSIONS = select(checkpoints.c.id, checkpoints.c.digest).where(
    checkpoints.c.run == bindparam("of_run"), checkpoints.c.path == bindparam("at_path")
)
_INSERT_CHECKPOINT = insert(checkpoints).returning(checkpoints.c.id)
_JOB = select(jobs.c.id, jobs.c.state, jobs.c.kind).where(
    jobs.c.checkpoint_id == bindparam("of"), jobs.c.eval_set_id == bindparam("on")
)
_INSERT_JOB = insert(jobs).returning(jobs.c.id)


@dataclass(frozen=True)
class NewCheckpoint:
    """One settled version of a file, ready to be registered. path: as stored; raw_path: bytes if not UTF-8."""

    path: str
    raw_path: bytes | None
    digest: str
    format: str
    fingerprint: Fingerprint
    family: str | None
    parameters: int | None
    step: int | None
    step_source: str
    payload_step: int | None
    name_step: int | None
    tokens_seen: int | None
    logged_val_loss: float | None
    config: str | None
    note: str | None
    skipped: str | None = None  # why its jobs are cancelled at once: stride, backfill


@dataclass(frozen=True)
class Registered:
    """What registering did: `new` is False for a version that was known; `enqueued`, `copied`: numbers of jobs."""

    id: int
    new: bool
    overwrote: bool
    enqueued: int
    copied: int
    queued: bool


@dataclass(frozen=True)
class EvalSetRow:
    id: int
    name: str
    digest: str


def run_lock(run: str) -> str:
    """Daemons that share a run register, copy and record in it one after the other."""
    return f"run {run}"


def adopt_run(store: Store, name: str, folder: str, now: str) -> bool:
    """Make the run known. True when it is new, which is when `backfill` counts."""
    with store.write(alone=run_lock(name)) as tx:
        known = tx.execute(select(runs.c.id).where(runs.c.name == name)).first()
        if known is None:
            tx.execute(insert(runs).values(name=name, dir=folder, created_at=now))
        else:
            tx.execute(update(runs).where(runs.c.name == name).values(dir=folder))
        return known is None


def adopt_eval_sets(
    store: Store, run: str, wanted: Sequence[tuple[EvalSetSpec, str]], now: str, *, whole: bool = True
) -> list[EvalSetRow]:
    """Make (spec, digest) pairs the current definitions of their names; the results of an older one leave the curves.

    What failed on an older definition (a tokenizer that was not there, say) is cancelled: it is no failure of today's.
    whole: these are all sets of the run now: the cells that are missing for them are enqueued, and what waits for any
    other set, or failed on it, is cancelled. Without it (`eval`) nothing else changes.
    """
    over = {"state": State.CANCELLED, "kind": "superseded", "reason": SET_CHANGED, "hint": None, "finished_at": now}
    with store.write(alone=run_lock(run)) as tx:
        rows = [_adopt(tx, run, spec, digest, now) for spec, digest in wanted]
        older = select(eval_sets.c.id).where(eval_sets.c.run == run, eval_sets.c.current == 0)
        tx.execute(update(jobs).where(jobs.c.state == State.FAILED, jobs.c.eval_set_id.in_(older)).values(over))
        if whole:
            gone = (jobs.c.run == run, jobs.c.eval_set_id.not_in([row.id for row in rows]))
            ended = jobs.c.state.in_((State.QUEUED, State.FAILED))
            tx.execute(update(jobs).where(ended, *gone).values(over))
            _enqueue_missing_cells(tx, run, rows, now)
        return rows


def eval_set_specs(store: Store, run: str) -> dict[int, tuple[EvalSetSpec, str]]:
    """The run's current sets: id -> (spec, digest)."""
    with store.read() as tx:
        found = tx.execute(select(eval_sets).where(eval_sets.c.run == run, eval_sets.c.current == 1))
        return {row.id: (from_json(EvalSetSpec, row.spec), row.digest) for row in found}


def known_versions(store: Store, run: str) -> Iterable[tuple[str, Fingerprint]]:
    """Path and fingerprint of every version that needs no second look: registered, or with a final verdict."""
    where = (checkpoints.c.run == run, checkpoints.c.superseded == 0)
    c = checkpoints.c
    with store.read() as tx:
        for row in tx.execute(select(c.path, c.dev, c.inode, c.size_bytes, c.mtime_ns, c.ctime_ns).where(*where)):
            yield row[0], Fingerprint(*row[1:])


def register(
    store: Store, run: str, found: Sequence[NewCheckpoint], sets: Sequence[EvalSetRow], now: str
) -> list[Registered]:
    """Register checkpoints and enqueue a job for each set, in one transaction. Doing it again changes nothing."""
    with store.write(alone=run_lock(run)) as tx:
        return [_register(tx, run, checkpoint, sets, now) for checkpoint in found]


def judge(
    store: Store, run: str, path: str, kind: str, reason: str, final: bool, at: Fingerprint | None, now: str
) -> None:
    """Keep why a path cannot be registered; the newest reason stands."""
    values = {
        "run": run,
        "path": path,
        "kind": kind,
        "reason": reason,
        "final": int(final),
        "at": now,
        "size_bytes": at.size_bytes if at else None,
        "mtime_ns": at.mtime_ns if at else None,
        "ctime_ns": at.ctime_ns if at else None,
    }
    with store.write() as tx:
        dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
        upsert = dialect.insert(candidates).values(values)
        tx.execute(upsert.on_conflict_do_update(index_elements=["run", "path"], set_=values))


def judged(store: Store, run: str) -> set[tuple[str, str]]:
    """(path, reason) of every final verdict: the same again is not news."""
    with store.read() as tx:
        rows = tx.execute(select(candidates.c.path, candidates.c.reason).where(candidates.c.run == run))
        return {(row.path, row.reason) for row in rows}


def judged_by_name(store: Store, run: str) -> list[str]:
    """Paths whose verdict is not about a content: irregular ones, and those still waited for."""
    by_name = or_(candidates.c.size_bytes.is_(None), candidates.c.final == 0)
    with store.read() as tx:
        return list(tx.execute(select(candidates.c.path).where(candidates.c.run == run, by_name)).scalars())


def unjudge(store: Store, run: str, path: str) -> None:
    with store.write() as tx:
        tx.execute(candidates.delete().where(candidates.c.run == run, candidates.c.path == path))


def home_device(store: Store, run: str) -> int | None:
    """st_dev of the newest registered checkpoint."""
    newest = select(checkpoints.c.dev).where(checkpoints.c.run == run, checkpoints.c.superseded == 0)
    with store.read() as tx:
        return tx.execute(newest.order_by(checkpoints.c.id.desc()).limit(1)).scalar()


def scanned(store: Store, run: str, now: str, ignored: Counter[str]) -> None:
    with store.write() as tx:
        tx.execute(update(runs).where(runs.c.name == run).values(last_scan_at=now, ignored=json.dumps(ignored)))


def mark_rotating(store: Store, run: str) -> None:
    with store.write() as tx:
        tx.execute(update(runs).where(runs.c.name == run).values(rotates=1))


def rotates(store: Store, run: str) -> bool:
    with store.read() as tx:
        return bool(tx.execute(select(runs.c.rotates).where(runs.c.name == run)).scalar())


def keep_pinned(store: Store, checkpoint_id: int, spool_path: str | None) -> None:
    with store.write() as tx:
        tx.execute(update(checkpoints).where(checkpoints.c.id == checkpoint_id).values(spool_path=spool_path))


def unneeded_pins(store: Store) -> list[tuple[int, str]]:
    """Pinned copies all of whose jobs are over."""
    waiting = select(jobs.c.checkpoint_id).where(jobs.c.state.in_((State.QUEUED, State.RUNNING)))
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.id, checkpoints.c.spool_path).where(
                checkpoints.c.spool_path.is_not(None), checkpoints.c.id.not_in(waiting)
            )
        )
        return [(row.id, row.spool_path) for row in rows]


def pinned_paths(store: Store) -> set[str]:
    with store.read() as tx:
        return set(tx.execute(select(checkpoints.c.spool_path).where(checkpoints.c.spool_path.is_not(None))).scalars())


def count_checkpoints(store: Store, run: str) -> int:
    with store.read() as tx:
        where = (checkpoints.c.run == run, checkpoints.c.superseded == 0)
        return tx.execute(select(func.count()).select_from(checkpoints).where(*where)).scalar_one()


def _adopt(tx: Connection, run: str, spec: EvalSetSpec, digest: str, now: str) -> EvalSetRow:
    name = and_(eval_sets.c.run == run, eval_sets.c.name == spec.name)
    tx.execute(update(eval_sets).where(name, eval_sets.c.digest != digest).values(current=0))
    found = tx.execute(select(eval_sets.c.id).where(name, eval_sets.c.digest == digest)).scalar()
    if found is None:
        values = {"run": run, "name": spec.name, "digest": digest, "spec": to_json(spec), "current": 1}
        found = tx.execute(insert(eval_sets).values(created_at=now, **values).returning(eval_sets.c.id)).scalar_one()
    else:  # the same content may lie elsewhere now
        tx.execute(update(eval_sets).where(eval_sets.c.id == found).values(current=1, spec=to_json(spec)))
    return EvalSetRow(found, spec.name, digest)


def _register(tx: Connection, run: str, new: NewCheckpoint, sets: Sequence[EvalSetRow], now: str) -> Registered:
    here = {"of_run": run, "at_path": new.path}
    tx.execute(_FORGET_CANDIDATE, here)
    versions = {row.digest: row.id for row in tx.execute(_VERSIONS, here)}
    checkpoint_id = versions.pop(new.digest, None)
    is_new = checkpoint_id is None
    stat = new.fingerprint._asdict()
    saved_at = iso(new.fingerprint.mtime_ns / 1e9)
    if checkpoint_id is None:
        facts = {
            name: getattr(new, name)
            for name in (
                *("path", "raw_path", "digest", "format", "family", "parameters", "step", "step_source"),
                *("payload_step", "name_step", "tokens_seen", "logged_val_loss", "config", "note"),
            )
        }
        values = {"run": run, "saved_at": saved_at, "registered_at": now, **facts, **stat}
        checkpoint_id = tx.execute(_INSERT_CHECKPOINT, values).scalar_one()
    else:
        tx.execute(update(checkpoints).where(checkpoints.c.id == checkpoint_id).values(superseded=0, **stat))
    if versions:
        _supersede(tx, list(versions.values()), now)
    enqueued, copied, waiting = _enqueue(tx, run, checkpoint_id, new, sets, now)
    return Registered(checkpoint_id, is_new, bool(versions), enqueued, copied, enqueued + waiting > 0)


def _supersede(tx: Connection, older: list[int], now: str) -> None:
    """Older versions of a path: their content is gone, unless it was pinned; what waits without a pin is cancelled."""
    tx.execute(update(checkpoints).where(checkpoints.c.id.in_(older)).values(superseded=1))
    gone = select(checkpoints.c.id).where(checkpoints.c.id.in_(older), checkpoints.c.spool_path.is_(None))
    reason = "a newer version was written to the same path first"
    tx.execute(
        update(jobs)
        .where(jobs.c.state == State.QUEUED, jobs.c.checkpoint_id.in_(gone))
        .values(state=State.CANCELLED, kind="superseded", reason=reason, finished_at=now)
    )


def _enqueue(
    tx: Connection, run: str, checkpoint_id: int, new: NewCheckpoint, sets: Sequence[EvalSetRow], now: str
) -> tuple[int, int, int]:
    """Jobs made or woken, those of them that a copy has ended, and those that waited already."""
    enqueued = copied = waiting = 0
    for eval_set in sets:
        job = tx.execute(_JOB, {"of": checkpoint_id, "on": eval_set.id}).first()
        again = {"state": State.QUEUED, "kind": None, "reason": None, "finished_at": None, "charged": 0, "orphaned": 0}
        if job is None:
            values = {"checkpoint_id": checkpoint_id, "eval_set_id": eval_set.id, "run": run, "enqueued_at": now}
            values["order_key"] = new.fingerprint.mtime_ns
            if new.skipped:
                over = {"state": State.CANCELLED, "kind": "skipped", "reason": new.skipped, "finished_at": now}
                tx.execute(insert(jobs).values(**values, **over))
                continue
            job_id = tx.execute(_INSERT_JOB, {"state": State.QUEUED, **values}).scalar_one()
        elif job.kind in ("vanished", "superseded"):  # the content is back
            job_id = job.id
            tx.execute(update(jobs).where(jobs.c.id == job_id).values(again))
        else:
            waiting += job.state == State.QUEUED
            continue
        if copies.from_equal_content(tx, job_id, now):
            copied += 1
        else:
            enqueued += 1
    return enqueued, copied, waiting


def _enqueue_missing_cells(tx: Connection, run: str, rows: Sequence[EvalSetRow], now: str) -> None:
    """Every registered checkpoint that still stands, times every current set that it has no job for."""
    for row in rows:
        has = select(jobs.c.checkpoint_id).where(jobs.c.eval_set_id == row.id)
        skipped = select(jobs.c.checkpoint_id).where(jobs.c.run == run, jobs.c.kind == "skipped")
        missing = tx.execute(
            select(checkpoints.c.id, checkpoints.c.mtime_ns).where(
                checkpoints.c.run == run,
                checkpoints.c.superseded == 0,
                checkpoints.c.id.not_in(has),
                checkpoints.c.id.not_in(skipped),
            )
        ).all()
        if missing:
            same = {"eval_set_id": row.id, "run": run, "state": State.QUEUED, "enqueued_at": now}
            values = [{"checkpoint_id": m.id, "order_key": m.mtime_ns, **same} for m in missing]
            tx.execute(insert(jobs), values)
        back = (jobs.c.eval_set_id == row.id, jobs.c.kind == "superseded", jobs.c.reason == SET_CHANGED)
        fresh = {"kind": None, "reason": None, "finished_at": None, "charged": 0, "orphaned": 0, "not_before": None}
        tx.execute(update(jobs).where(*back).values(state=State.QUEUED, **fresh))
