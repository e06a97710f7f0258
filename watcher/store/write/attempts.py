"""Verbs on attempts: those that are open, when a worker starts on one, and how one ends.

Every UPDATE repeats the state it comes from, and the token where there is one: who comes late changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, or_, select, true, update

from watcher.domain.job import JobFacts, State, Transition
from watcher.store.engine import Store
from watcher.store.schema import OPEN_ATTEMPT, attempts, checkpoints, eval_sets, jobs, launches
from watcher.store.write import launches as leases
from watcher.store.write import versions
from watcher.store.write.checkpoints import MODEL_CHANGED
from watcher.store.write.claimed import ClaimedCheckpoint, claimed_checkpoint
from watcher.store.write.eval_sets import SET_CHANGED


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that has not ended, with what is needed to end it."""

    id: int
    token: str
    launch_id: str
    job: JobFacts


@dataclass(frozen=True)
class Held:
    """An open attempt with the checkpoint and set that it is about."""

    attempt: OpenAttempt
    checkpoint: ClaimedCheckpoint
    eval_set: str


def started(store: Store, attempt_id: int, now: str) -> None:
    with store.write() as tx:
        where = (attempts.c.id == attempt_id, attempts.c.started_at.is_(None))
        tx.execute(update(attempts).where(*where).values(started_at=now))


def fenced(store: Store, attempt_ids: Sequence[int]) -> list[int]:
    """Those of these attempts whose token is their job's no longer: it was cancelled, or others have it."""
    if not attempt_ids:
        return []
    void = or_(jobs.c.token.is_(None), jobs.c.token != attempts.c.token)
    with store.read() as tx:
        query = select(attempts.c.id).select_from(attempts.join(jobs)).where(attempts.c.id.in_(attempt_ids), void)
        return list(tx.execute(query).scalars())


def open_held(store: Store, instance_id: str = "") -> list[Held]:
    """Every attempt that has not ended: what rescue has to decide on. On a server only those of this instance."""
    return _open_held(store, launches.c.instance_id == instance_id if store.shared else true())


def lapsed_held(store: Store, instance_id: str) -> list[Held]:
    """Open attempts of other instances' launches whose lease has run out, or which are over."""
    over = or_(launches.c.lease_expires_at < leases.server_time(), launches.c.finished_at.is_not(None))
    return _open_held(store, and_(launches.c.instance_id != instance_id, over))


def _open_held(store: Store, where: ColumnElement[bool]) -> list[Held]:
    with store.read() as tx:
        rows = tx.execute(
            select(attempts.c.id.label("attempt"), attempts.c.token.label("attempt_token"), attempts.c.launch_id)
            .add_columns(jobs.c.id.label("job"), jobs.c.charged, jobs.c.orphaned, eval_sets.c.name.label("eval_set"))
            .add_columns(checkpoints)
            .select_from(
                attempts.join(jobs)
                .join(checkpoints)
                .join(eval_sets)
                .outerjoin(launches, launches.c.id == attempts.c.launch_id)
            )
            .where(OPEN_ATTEMPT, where)
        ).all()
    return [
        Held(
            OpenAttempt(r.attempt, r.attempt_token, r.launch_id, JobFacts(r.job, r.charged, r.orphaned)),
            claimed_checkpoint(r, ()),
            r.eval_set,
        )
        for r in rows
    ]


def end_attempt(
    tx: Connection, attempt_id: int, token: str, job_id: int, move: Transition, not_before: str | None, now: str
) -> bool:
    """Apply a transition inside the caller's transaction. False: the token is no longer the job's, nothing changed."""
    final = move.state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    changed = tx.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == State.RUNNING, jobs.c.token == token)
        .values(
            state=move.state,
            kind=move.kind if final else None,
            reason=move.reason,
            hint=move.hint,
            charged=jobs.c.charged + move.charge,
            orphaned=jobs.c.orphaned + move.orphan,
            not_before=None if final else not_before,
            token=None,
            launch_id=jobs.c.launch_id if final else None,
            finished_at=now if final else None,
        )
    ).rowcount
    if not final:
        _cancel_unwanted(tx, job_id, now)
    elif changed and move.kind in versions.ABOUT_THE_BYTES:
        _deny(tx, job_id, now)
    tx.execute(
        update(attempts)
        .where(attempts.c.id == attempt_id, OPEN_ATTEMPT)
        .values(
            outcome=move.attempt_outcome if changed else "released",
            kind=move.kind,
            reason=move.reason,
            charged=move.charge,
            finished_at=now,
        )
    )
    return changed == 1


def end_attempts(store: Store, ends: Iterable[tuple[OpenAttempt, Transition, str | None]], now: str) -> None:
    """Several transitions that record no result, in one transaction."""
    with store.write() as tx:
        for attempt, move, not_before in ends:
            end_attempt(tx, attempt.id, attempt.token, attempt.job.id, move, not_before, now)


def _cancel_unwanted(tx: Connection, job_id: int, now: str) -> None:
    """The set may have got another definition meanwhile, or the model: those cells have jobs of their own."""
    older = select(eval_sets.c.id).where(eval_sets.c.current == 0)
    model = select(checkpoints.c.model_digest).where(checkpoints.c.id == jobs.c.checkpoint_id).scalar_subquery()
    over = {"state": State.CANCELLED, "kind": "superseded", "finished_at": now}
    queued = (jobs.c.id == job_id, jobs.c.state == State.QUEUED)
    for unwanted, reason in (
        (jobs.c.eval_set_id.in_(older), SET_CHANGED),
        (jobs.c.model_digest != model, MODEL_CHANGED),
    ):
        tx.execute(update(jobs).where(*queued, unwanted).values(reason=reason, **over))


def _deny(tx: Connection, job_id: int, now: str) -> None:
    """The bytes were read and are damaged: no number of this version stands, unless the file has changed since."""
    columns = (checkpoints.c.id, checkpoints.c.run, checkpoints.c.path, checkpoints.c.changed_at, jobs.c.claimed_at)
    joined = select(*columns, eval_sets.c.kind).select_from(jobs.join(checkpoints).join(eval_sets))
    row = tx.execute(joined.where(jobs.c.id == job_id)).one()
    if row.kind == "sample":  # what reads the bytes after the losses takes no loss away
        return
    if row.changed_at is not None and row.claimed_at is not None and row.changed_at > row.claimed_at:
        afresh = {"state": State.QUEUED, "kind": None, "reason": None, "hint": None, "finished_at": None}
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(afresh))
        return
    versions.confirm(tx, row.id, versions.DAMAGED)
    versions.restand(tx, row.run, row.path, now)
