"""Verbs on jobs: claim, start, end an attempt, rescue, and what a person may do to the queue.

Every UPDATE repeats the state it comes from, and the token where there is one: who comes late changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from watcher.clock import seconds
from watcher.jobs import JobFacts, State, Transition
from watcher.store.engine import Store
from watcher.store.schema import attempts, checkpoints, eval_sets, jobs, launches


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this launch may run: answer with the token."""

    id: int
    attempt: int
    token: str
    eval_set_id: int
    eval_set: str
    facts: JobFacts


@dataclass(frozen=True)
class ClaimedCheckpoint:
    """One checkpoint and the jobs claimed for it. path: bytes-exact name below the run's folder."""

    id: int
    run: str
    path: str
    shown_path: str
    digest: str
    size_bytes: int
    step: int | None
    spool_path: str | None
    jobs: tuple[ClaimedJob, ...]


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


def claim_next(
    store: Store, runs_order: Mapping[str, str], launch_id: str, now: str, only: Sequence[int] | None = None
) -> ClaimedCheckpoint | None:
    """Claim every due job of the next checkpoint. runs_order: run -> newest|oldest. only: these checkpoints first.

    None when nothing is due. A checkpoint whose content is being evaluated under another path waits for its copy.
    """
    with store.write() as tx:
        due = and_(
            jobs.c.state == State.QUEUED,
            jobs.c.run.in_(list(runs_order)),
            or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
        )
        oldest_first = all(order == "oldest" for order in runs_order.values())
        order_key = jobs.c.order_key.asc() if oldest_first else jobs.c.order_key.desc()
        query = select(jobs.c.checkpoint_id).where(due)
        if only:
            query = query.where(jobs.c.checkpoint_id.in_(only))
        query = query.order_by(jobs.c.priority.desc(), order_key, jobs.c.id.asc() if oldest_first else jobs.c.id.desc())
        for checkpoint_id in tx.execute(query.limit(32).with_for_update(skip_locked=True)).scalars().all():
            if not _content_is_running(tx, checkpoint_id):
                return _claim(tx, checkpoint_id, due, launch_id, now)
        return None


def waiting_steps(store: Store, run: str, now: str) -> dict[int, int]:
    """step -> checkpoint id of what is due, for the order `fill`."""
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.step, checkpoints.c.id)
            .select_from(jobs.join(checkpoints))
            .where(
                jobs.c.state == State.QUEUED,
                jobs.c.run == run,
                checkpoints.c.step.is_not(None),
                or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
            )
        )
        return {row.step: row.id for row in rows}


def finished_steps(store: Store, run: str) -> set[int]:
    with store.read() as tx:
        rows = tx.execute(
            select(checkpoints.c.step)
            .select_from(jobs.join(checkpoints))
            .where(jobs.c.run == run, jobs.c.state != State.QUEUED, checkpoints.c.step.is_not(None))
            .distinct()
        )
        return set(rows.scalars())


def open_launch(store: Store, values: dict) -> None:
    with store.write() as tx:
        tx.execute(insert(launches).values(values))


def update_launch(store: Store, launch_id: str, **values) -> None:
    with store.write() as tx:
        tx.execute(update(launches).where(launches.c.id == launch_id).values(values))


def open_launches(store: Store) -> list:
    with store.read() as tx:
        return list(tx.execute(select(launches).where(launches.c.finished_at.is_(None))).all())


def started(store: Store, attempt_id: int, now: str) -> None:
    with store.write() as tx:
        where = (attempts.c.id == attempt_id, attempts.c.started_at.is_(None))
        tx.execute(update(attempts).where(*where).values(started_at=now))


def open_held(store: Store) -> list[Held]:
    """Every attempt that has not ended, of whichever launch: what rescue has to decide on."""
    with store.read() as tx:
        rows = tx.execute(
            select(attempts.c.id.label("attempt"), attempts.c.token.label("attempt_token"), attempts.c.launch_id)
            .add_columns(jobs.c.id.label("job"), jobs.c.charged, jobs.c.orphaned, eval_sets.c.name.label("eval_set"))
            .add_columns(checkpoints)
            .select_from(attempts.join(jobs).join(checkpoints).join(eval_sets))
            .where(attempts.c.outcome.is_(None))
        ).all()
    return [
        Held(
            OpenAttempt(r.attempt, r.attempt_token, r.launch_id, JobFacts(r.job, r.charged, r.orphaned)),
            _claimed_checkpoint(r, ()),
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
    tx.execute(
        update(attempts)
        .where(attempts.c.id == attempt_id, attempts.c.outcome.is_(None))
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


def waiting_among(store: Store, checkpoint_ids: Sequence[int]) -> int:
    """How many jobs of these checkpoints are not over."""
    where = (jobs.c.checkpoint_id.in_(checkpoint_ids), jobs.c.state.in_((State.QUEUED, State.RUNNING)))
    with store.read() as tx:
        return tx.execute(select(func.count()).select_from(jobs).where(*where)).scalar_one()


def count_by_state(store: Store) -> dict[str, int]:
    with store.read() as tx:
        rows = tx.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        return {row[0]: row[1] for row in rows}


def oldest_waiting_s(store: Store) -> float | None:
    """When the job that has waited longest was queued, in seconds since the epoch."""
    with store.read() as tx:
        first = tx.execute(select(func.min(jobs.c.enqueued_at)).where(jobs.c.state == State.QUEUED)).scalar()
        return seconds(first) if first else None


def next_due(store: Store, runs: Sequence[str]) -> str | None:
    """When the next job of these runs may be claimed; None where none is queued, "" where one is due already."""
    with store.read() as tx:
        row = tx.execute(
            select(func.count(), func.min(func.coalesce(jobs.c.not_before, ""))).where(
                jobs.c.state == State.QUEUED, jobs.c.run.in_(runs)
            )
        ).one()
        return row[1] if row[0] else None


def changeable(store: Store, action: str) -> list[int]:
    """Jobs that retry, cancel or bump can be done to."""
    states = {
        "retry": (State.FAILED, State.CANCELLED),
        "cancel": (State.QUEUED, State.RUNNING),
        "bump": (State.QUEUED,),
    }.get(action, ())
    with store.read() as tx:
        return list(tx.execute(select(jobs.c.id).where(jobs.c.state.in_(states)).order_by(jobs.c.id)).scalars())


def change(store: Store, action: str, job_ids: Sequence[int], now: str) -> int:
    """What a person asks: retry, cancel or bump these jobs. Returns how many changed."""
    with store.write() as tx:
        chosen = jobs.c.id.in_(job_ids)
        if action == "retry":
            where: ColumnElement[bool] = jobs.c.state.in_((State.FAILED, State.CANCELLED))
            values: dict[str, Any] = {
                "state": State.QUEUED,
                "finished_at": None,
                "kind": None,
                "reason": None,
                "charged": 0,
            }
            values |= {"orphaned": 0, "not_before": None}
        elif action == "cancel":
            where = jobs.c.state.in_((State.QUEUED, State.RUNNING))
            values = {"state": State.CANCELLED, "kind": "by_user", "reason": "cancelled by a person", "token": None}
            values |= {"finished_at": now}
        else:
            where = jobs.c.state == State.QUEUED
            top = tx.execute(select(func.coalesce(func.max(jobs.c.priority), 0))).scalar_one()
            values = {"priority": top + 1, "not_before": None}
        return tx.execute(update(jobs).where(chosen, where).values(values)).rowcount


def ended_without_result(store: Store, checkpoint_ids: Sequence[int], set_ids: Sequence[int]) -> list[int]:
    """Failed or cancelled jobs of these checkpoints on these sets."""
    where = (jobs.c.checkpoint_id.in_(checkpoint_ids), jobs.c.eval_set_id.in_(set_ids))
    with store.read() as tx:
        query = select(jobs.c.id).where(*where, jobs.c.state.in_((State.FAILED, State.CANCELLED)))
        return list(tx.execute(query).scalars())


def revive_newest(store: Store, run: str, now: str) -> int:
    """The newest checkpoint of a run is evaluated even where the stride or backfill left it aside."""
    with store.write() as tx:
        newest = tx.execute(
            select(checkpoints.c.id)
            .where(checkpoints.c.run == run, checkpoints.c.superseded == 0)
            .order_by(checkpoints.c.mtime_ns.desc(), checkpoints.c.step.desc())
            .limit(1)
        ).scalar()
        where = (jobs.c.checkpoint_id == newest, jobs.c.state == State.CANCELLED, jobs.c.kind == "skipped")
        again = {"state": State.QUEUED, "finished_at": None, "kind": None, "reason": None}
        return tx.execute(update(jobs).where(*where).values(again)).rowcount


def _claim(tx: Connection, checkpoint_id: int, due, launch_id: str, now: str) -> ClaimedCheckpoint:
    row = tx.execute(select(checkpoints).where(checkpoints.c.id == checkpoint_id)).one()
    mine = tx.execute(
        select(jobs, eval_sets.c.name.label("eval_set"))
        .select_from(jobs.join(eval_sets))
        .where(due, jobs.c.checkpoint_id == checkpoint_id)
        .order_by(eval_sets.c.id)
    ).all()
    claimed = []
    for job in mine:
        token = secrets.token_hex(16)
        changed = tx.execute(
            update(jobs)
            .where(jobs.c.id == job.id, jobs.c.state == State.QUEUED)
            .values(state=State.RUNNING, token=token, launch_id=launch_id, claimed_at=now)
        ).rowcount
        if changed:
            values = {"job_id": job.id, "launch_id": launch_id, "token": token, "claimed_at": now}
            attempt = tx.execute(insert(attempts).values(values).returning(attempts.c.id)).scalar_one()
            facts = JobFacts(job.id, job.charged, job.orphaned)
            claimed.append(ClaimedJob(job.id, attempt, token, job.eval_set_id, job.eval_set, facts))
    return _claimed_checkpoint(row, tuple(claimed))


def _claimed_checkpoint(row, claimed: tuple[ClaimedJob, ...]) -> ClaimedCheckpoint:
    exact = row.raw_path.decode("utf-8", "surrogateescape") if row.raw_path else row.path
    return ClaimedCheckpoint(
        *(row.id, row.run, exact, row.path, row.digest, row.size_bytes, row.step, row.spool_path, claimed)
    )


def _content_is_running(tx: Connection, checkpoint_id: int) -> bool:
    this, other = checkpoints.alias(), checkpoints.alias()
    return (
        tx.execute(
            select(jobs.c.id)
            .select_from(jobs.join(other, other.c.id == jobs.c.checkpoint_id))
            .join(this, and_(this.c.digest == other.c.digest, this.c.run == other.c.run))
            .where(this.c.id == checkpoint_id, other.c.id != checkpoint_id, jobs.c.state == State.RUNNING)
            .limit(1)
        ).first()
        is not None
    )
