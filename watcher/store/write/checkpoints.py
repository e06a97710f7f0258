"""The verb `register`: one settled version of a file becomes a row, and a job for each eval set.

A version is one path with one claimed digest. A changed stat means that its bytes may be others: they are read again,
and until then the version's jobs are queued.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from watcher.domain.checkpoint import Fingerprint
from watcher.domain.job import State
from watcher.domain.timestamps import iso
from watcher.store.engine import Store
from watcher.store.schema import candidates, checkpoints, jobs, results
from watcher.store.write import versions
from watcher.store.write.eval_sets import EvalSetRow, demand_eval_sets, largest_ids, unused_id
from watcher.store.write.runs import run_lock

#: A mean of checkpoints is a version without a file of its own.
NO_MEAN = checkpoints.c.weights.is_(None)
MODEL_CHANGED = "the model is made in another way now"

# Statements of every checkpoint, built once: to put them together took nine tenths of registering it.
_FORGET_CANDIDATE = candidates.delete().where(
    candidates.c.run == bindparam("of_run"), candidates.c.path == bindparam("at_path")
)
_VERSIONS = select(
    *(checkpoints.c.id, checkpoints.c.digest, checkpoints.c.superseded, checkpoints.c.undone),
    *(checkpoints.c.observed_at, checkpoints.c.model_digest),
    *(checkpoints.c[name] for name in Fingerprint._fields),
).where(checkpoints.c.run == bindparam("of_run"), checkpoints.c.path == bindparam("at_path"))
_INSERT_CHECKPOINT = insert(checkpoints).returning(checkpoints.c.id)
_JOB = select(jobs.c.id, jobs.c.state, jobs.c.kind).where(
    *(jobs.c.checkpoint_id == bindparam("of"), jobs.c.eval_set_id == bindparam("on")),
    jobs.c.model_digest == bindparam("by"),
)
_INSERT_JOB = insert(jobs).returning(jobs.c.id)
_LARGEST_IDS = largest_ids(jobs.c.checkpoint_id, checkpoints)
_OF_THE_MODEL = ("family", "parameters", "config", "assumed", "sidecars", "model_digest", "model_settings", "note")
_AFRESH: dict[str, Any] = {"state": State.QUEUED, "kind": None, "reason": None, "hint": None, "finished_at": None}
_AFRESH |= {"charged": 0, "orphaned": 0, "not_before": None}


@dataclass(frozen=True)
class NewCheckpoint:
    """One settled version of a file, ready to be registered. path: as stored; raw_path: bytes if not UTF-8.

    model_digest: of everything beside the file that makes it a model; assumed, sidecars: what of that is not in the
    settings, whose own digest is model_settings. observed_at: when it appeared at its path; None is now.
    """

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
    model_digest: str = ""
    model_settings: str | None = None
    assumed: str | None = None
    sidecars: str | None = None
    observed_at: str | None = None


@dataclass(frozen=True)
class Registered:
    """What registering did: `new` is False for a version that was known; `enqueued`: number of jobs."""

    id: int
    new: bool
    overwrote: bool
    enqueued: int
    queued: bool
    changed: bool = False  # a known version whose bytes may be others: a pinned copy of it is out of date


def known_versions(store: Store, run: str, model_settings: str | None = None) -> Iterable[tuple[str, Fingerprint]]:
    """Path and fingerprint of every version that needs no second look.

    model_settings: digest of the settings in use. Versions that were registered under others, or whose configuration
    comes from a file beside them, which may have changed, are looked at again.
    """
    where = [checkpoints.c.run == run, checkpoints.c.superseded == 0, NO_MEAN]
    if model_settings is not None:
        where += [checkpoints.c.model_settings == model_settings, checkpoints.c.sidecars.is_(None)]
    c = checkpoints.c
    with store.read() as tx:
        for row in tx.execute(select(c.path, c.dev, c.inode, c.size_bytes, c.mtime_ns, c.ctime_ns).where(*where)):
            yield row[0], Fingerprint(*row[1:])


def register(
    store: Store, run: str, new: Sequence[NewCheckpoint], sets: Sequence[EvalSetRow], now: str
) -> list[Registered]:
    """Register checkpoints and enqueue a job for each set, in one transaction. Doing it again changes nothing."""
    try:
        with store.write(alone=run_lock(run)) as tx:
            return [_register(tx, run, checkpoint, sets, now) for checkpoint in new]
    except IntegrityError:
        demand_eval_sets(store, sets)
        raise


def adopt_model(
    store: Store, run: str, checkpoint_id: int, new: NewCheckpoint, sets: Sequence[EvalSetRow], now: str
) -> int:
    """A registered version, perhaps gone from its path, as another model: its jobs are queued. Returns how many."""
    with store.write(alone=run_lock(run)) as tx:
        known = tx.execute(select(checkpoints).where(checkpoints.c.id == checkpoint_id)).one()
        if known.model_digest != new.model_digest:
            _change_model(tx, run, new, known, now)
        values = {name: getattr(new, name) for name in _OF_THE_MODEL}
        tx.execute(update(checkpoints).where(checkpoints.c.id == checkpoint_id).values(values))
        return _enqueue(tx, run, checkpoint_id, new, sets, now, False)[0]


def newest_device(store: Store, run: str) -> int | None:
    """st_dev of the newest registered checkpoint."""
    newest = select(checkpoints.c.dev).where(checkpoints.c.run == run, checkpoints.c.superseded == 0, NO_MEAN)
    with store.read() as tx:
        return tx.execute(newest.order_by(checkpoints.c.id.desc()).limit(1)).scalar()


def count_checkpoints(store: Store, run: str) -> int:
    with store.read() as tx:
        where = (checkpoints.c.run == run, checkpoints.c.superseded == 0, NO_MEAN)
        return tx.execute(select(func.count()).select_from(checkpoints).where(*where)).scalar_one()


def standing_files(store: Store, run: str, limit: int = 50) -> list[tuple[str, int, int]]:
    """(path, size, mtime_ns) of some standing versions: to recognise a folder that was moved."""
    c = checkpoints.c
    query = (
        select(c.path, c.size_bytes, c.mtime_ns).where(c.run == run, c.superseded == 0, NO_MEAN).order_by(c.id.desc())
    )
    with store.read() as tx:
        return [(row.path, row.size_bytes, row.mtime_ns) for row in tx.execute(query.limit(limit))]


def _register(tx: Connection, run: str, new: NewCheckpoint, sets: Sequence[EvalSetRow], now: str) -> Registered:
    place = {"of_run": run, "at_path": new.path}
    tx.execute(_FORGET_CANDIDATE, place)
    others = {row.digest: row for row in tx.execute(_VERSIONS, place)}
    known = others.pop(new.digest, None)
    observed_at = min(new.observed_at or now, now)
    if others and observed_at <= max(row.observed_at for row in others.values()):
        observed_at = now
    if known is None:
        checkpoint_id, changed = _insert(tx, run, new, observed_at, now), False
    else:
        checkpoint_id, changed = known.id, _observe_again(tx, run, new, known, observed_at, now)
    older = [row.id for row in others.values() if not row.superseded]
    if older:
        back = known is not None and bool(known.superseded)
        undone = [row.id for row in others.values() if known is not None and row.observed_at > known.observed_at]
        versions.supersede(tx, older, now, undone if back else ())
    enqueued, waiting = _enqueue(tx, run, checkpoint_id, new, sets, now, changed)
    if others or known is not None:
        versions.restand(tx, run, new.path, now)
    return Registered(checkpoint_id, known is None, bool(others), enqueued, enqueued + waiting > 0, changed)


def _insert(tx: Connection, run: str, new: NewCheckpoint, observed_at: str, now: str) -> int:
    facts = {
        name: getattr(new, name)
        for name in (
            *("path", "raw_path", "digest", "format", "family", "parameters", "step", "step_source", "payload_step"),
            *("name_step", "tokens_seen", "logged_val_loss", "config", "note", "model_digest", "model_settings"),
            *("assumed", "sidecars"),
        )
    }
    values = {"run": run, "saved_at": iso(new.fingerprint.mtime_ns / 1e9), "registered_at": now, **facts}
    values |= {"observed_at": observed_at, **new.fingerprint._asdict()}
    values |= unused_id(tx, _LARGEST_IDS)
    return tx.execute(_INSERT_CHECKPOINT, values).scalar_one()


def _observe_again(tx: Connection, run: str, new: NewCheckpoint, known: Any, observed_at: str, now: str) -> bool:
    """A version that is known: True where its bytes may have changed since they were read."""
    if known.model_digest != new.model_digest:
        _change_model(tx, run, new, known, now)
    values: dict[str, Any] = {name: getattr(new, name) for name in _OF_THE_MODEL}
    values |= {"superseded": 0, "undone": 0, **new.fingerprint._asdict()}
    changed = any(getattr(known, name) != value for name, value in new.fingerprint._asdict().items())
    if changed:
        values |= {"content_digest": None, "changed_at": now, "saved_at": iso(new.fingerprint.mtime_ns / 1e9)}
    if known.superseded:
        values["observed_at"] = observed_at
    tx.execute(update(checkpoints).where(checkpoints.c.id == known.id).values(values))
    return changed


def _change_model(tx: Connection, run: str, new: NewCheckpoint, known: Any, now: str) -> None:
    """Jobs of another model are not wanted any more. Rows of 0.1.0 are taken over where nothing but the file counts."""
    alone = new.sidecars is None and new.assumed is None and new.model_settings in (None, PLAIN_SETTINGS)
    if known.model_digest == "" and alone:
        mine = (jobs.c.checkpoint_id == known.id, jobs.c.model_digest == "")
        tx.execute(update(jobs).where(*mine).values(model_digest=new.model_digest))
        rows = (results.c.run == run, results.c.checkpoint == new.path, results.c.checkpoint_digest == new.digest)
        unknown = results.c.model_digest.is_(None)
        tx.execute(update(results).where(*rows, unknown).values(model_digest=new.model_digest))
    over = {"state": State.CANCELLED, "kind": "superseded", "reason": MODEL_CHANGED, "hint": None, "finished_at": now}
    other = (jobs.c.checkpoint_id == known.id, jobs.c.model_digest != new.model_digest)
    tx.execute(update(jobs).where(*other, jobs.c.state.in_((State.QUEUED, State.FAILED))).values(over))


#: The digest of `[model]` settings that are all left out.
PLAIN_SETTINGS = "none"


def _enqueue(
    tx: Connection,
    run: str,
    checkpoint_id: int,
    new: NewCheckpoint,
    sets: Sequence[EvalSetRow],
    now: str,
    changed: bool,
) -> tuple[int, int]:
    """(jobs made or queued again, those that waited already)."""
    enqueued = waiting = 0
    for eval_set in sets:
        job = tx.execute(_JOB, {"of": checkpoint_id, "on": eval_set.id, "by": new.model_digest}).first()
        if job is None:
            values = {"checkpoint_id": checkpoint_id, "eval_set_id": eval_set.id, "run": run, "enqueued_at": now}
            values |= {"order_key": new.fingerprint.mtime_ns, "model_digest": new.model_digest}
            values["priority"] = eval_set.priority
            if new.skipped:
                over = {"state": State.CANCELLED, "kind": "skipped", "reason": new.skipped, "finished_at": now}
                tx.execute(insert(jobs).values(**values, **over))
                continue
            tx.execute(_INSERT_JOB, {"state": State.QUEUED, **values})
            enqueued += 1
        elif job.kind in ("vanished", "superseded") or (changed and job.state in (State.SUCCEEDED, State.FAILED)):
            # its content is back, or must be read again
            tx.execute(update(jobs).where(jobs.c.id == job.id).values(_AFRESH))
            enqueued += 1
        else:
            waiting += job.state == State.QUEUED
    return enqueued, waiting
