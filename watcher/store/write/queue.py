"""Verbs on jobs: claim, start, end an attempt, rescue, and what a person may do to the queue.

Every UPDATE repeats the state it comes from, and the token where there is one: who comes late changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from watcher.domain.job import JobFacts, State, Transition
from watcher.domain.timestamps import seconds
from watcher.store.engine import Store
from watcher.store.schema import attempts, checkpoints, eval_sets, jobs, launches
from watcher.store.write import leases
from watcher.store.write.checkpoints import SET_CHANGED

# The checkpoint is what a claim locks, not its jobs: two daemons that each hold one of its jobs would deadlock.
_LOCKED_CHECKPOINT = (
    select(checkpoints).where(checkpoints.c.id == bindparam("wanted")).with_for_update(skip_locked=True, key_share=True)
)
_THIS, _OTHER = checkpoints.alias("this"), checkpoints.alias("other")
_CONTENT_RUNS = (
    select(jobs.c.id)
    .select_from(jobs.join(_OTHER, _OTHER.c.id == jobs.c.checkpoint_id))
    .join(_THIS, and_(_THIS.c.digest == _OTHER.c.digest, _THIS.c.run == _OTHER.c.run))
    .where(_THIS.c.id == bindparam("wanted"), _OTHER.c.id != _THIS.c.id, jobs.c.state == State.RUNNING)
    .limit(1)
)
# What may be claimed at :at.
DUE = and_(
    jobs.c.state == State.QUEUED, or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("at", type_=Text))
)
_CLAIM = (
    update(jobs)
    .where(jobs.c.checkpoint_id == bindparam("of"), DUE)
    .values(state=State.RUNNING, launch_id=bindparam("launch"), claimed_at=bindparam("at"))
    .values(token=bindparam("secret", type_=Text) + cast(jobs.c.id, Text))
    .returning(jobs.c.id, jobs.c.eval_set_id, jobs.c.charged, jobs.c.orphaned, jobs.c.token)
)
_OPEN_ATTEMPTS = insert(attempts).returning(attempts.c.job_id, attempts.c.id)
_OPEN_LAUNCH = insert(launches)
_SET_NAMES = select(eval_sets.c.id, eval_sets.c.name).where(eval_sets.c.id.in_(bindparam("ids", expanding=True)))
CHANGED_AT_ONCE = 10_000  # jobs in one statement: SQLite and PostgreSQL bound the number of its values
CLAIM_LOOKS_AT = 32  # queued jobs, in order: more than can be in other hands or wait for their copy


@cache
def _next_due(oldest_first: bool, among: bool) -> Select[tuple[int]]:
    """Checkpoints of due jobs in order. Built once: to put it together takes longer than to run it."""
    query = select(jobs.c.checkpoint_id).where(DUE, jobs.c.run.in_(bindparam("runs", expanding=True)))
    if among:
        query = query.where(jobs.c.checkpoint_id.in_(bindparam("among", expanding=True)))
    order = (jobs.c.order_key, jobs.c.id)
    query = query.order_by(jobs.c.priority.desc(), *(key.asc() if oldest_first else key.desc() for key in order))
    return query.limit(CLAIM_LOOKS_AT)


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
    store: Store,
    runs_order: Mapping[str, str],
    launch_id: str,
    now: str,
    only: Sequence[int] | None = None,
    opens: Mapping[str, Any] | None = None,
) -> ClaimedCheckpoint | None:
    """Claim every due job of the next checkpoint. runs_order: run -> newest|oldest. only: these checkpoints first.

    opens: the row of a launch that begins with this claim. None when nothing is due. A checkpoint whose content is
    being evaluated under another path waits for its copy. Daemons that share a server never wait for one another.
    """
    oldest_first = all(order == "oldest" for order in runs_order.values())
    wanted = {"runs": list(runs_order), "at": now} | ({"among": list(only)} if only else {})
    with store.write() as tx:
        for checkpoint_id in dict.fromkeys(tx.execute(_next_due(oldest_first, bool(only)), wanted).scalars()):
            row = tx.execute(_LOCKED_CHECKPOINT, {"wanted": checkpoint_id}).first()
            if row is None or tx.execute(_CONTENT_RUNS, {"wanted": checkpoint_id}).first() is not None:
                continue
            claimed = _claim(tx, row, launch_id, now)
            if claimed.jobs:
                if opens is not None:
                    lease = leases.first(store)  # an expression: the server's own clock
                    tx.execute(_OPEN_LAUNCH.values(lease) if lease else _OPEN_LAUNCH, dict(opens))
                return claimed
        return None


def update_launch(store: Store, launch_id: str, **values) -> None:
    with store.write() as tx:
        tx.execute(update(launches).where(launches.c.id == launch_id).values(values))


def open_launches(store: Store, home: str = "") -> list:
    """Launches that have not ended; on a server only those of this home (a daemon's state folder)."""
    mine = (launches.c.home == home,) if store.shared else ()
    with store.read() as tx:
        return list(tx.execute(select(launches).where(launches.c.finished_at.is_(None), *mine)).all())


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


def open_held(store: Store, home: str = "") -> list[Held]:
    """Every attempt that has not ended: what rescue has to decide on. On a server only those of this home."""
    return _open_held(store, launches.c.home == home if store.shared else true())


def lapsed_held(store: Store, home: str) -> list[Held]:
    """Open attempts of other homes' launches whose lease has run out, or which are over."""
    over = or_(launches.c.lease_expires_at < leases.server_time(), launches.c.finished_at.is_not(None))
    return _open_held(store, and_(launches.c.home != home, over))


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
            .where(attempts.c.outcome.is_(None), where)
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
    if not final:  # the set may have got another definition meanwhile: its cells have jobs of their own
        older = select(eval_sets.c.id).where(eval_sets.c.current == 0)
        over = {"state": State.CANCELLED, "kind": "superseded", "reason": SET_CHANGED, "finished_at": now}
        this = (jobs.c.id == job_id, jobs.c.state == State.QUEUED, jobs.c.eval_set_id.in_(older))
        tx.execute(update(jobs).where(*this).values(over))
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


def oldest_waiting_s(store: Store, runs: Collection[str]) -> float | None:
    """When the job of these runs that has waited longest was queued, in seconds since the epoch."""
    with store.read() as tx:
        where = (jobs.c.state == State.QUEUED, jobs.c.run.in_(list(runs)))
        first = tx.execute(select(func.min(jobs.c.enqueued_at)).where(*where)).scalar()
        return seconds(first) if first else None


def next_due(store: Store, runs: Collection[str]) -> str | None:
    """When the next job of these runs may be claimed; None where none is queued, "" where one is due already."""
    queued = (jobs.c.state == State.QUEUED, jobs.c.run.in_(list(runs)))
    with store.read() as tx:
        if tx.execute(select(jobs.c.id).where(*queued, jobs.c.not_before.is_(None)).limit(1)).first():
            return ""
        return tx.execute(select(func.min(jobs.c.not_before)).where(*queued)).scalar()


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
    """Retry, cancel or bump these jobs, all in one transaction. Returns how many changed."""
    with store.write() as tx:
        chosen = jobs.c.id.in_(bindparam("chosen", expanding=True))
        if action == "retry":
            current = select(eval_sets.c.id).where(eval_sets.c.current == 1)
            over = jobs.c.state.in_((State.FAILED, State.CANCELLED))
            where: ColumnElement[bool] = and_(over, jobs.c.eval_set_id.in_(current))
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
        changing = update(jobs).where(chosen, where).values(values)
        batches = [job_ids[at : at + CHANGED_AT_ONCE] for at in range(0, len(job_ids), CHANGED_AT_ONCE)]
        return sum(tx.execute(changing, {"chosen": list(batch)}).rowcount for batch in batches)


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


def _claim(tx: Connection, row, launch_id: str, now: str) -> ClaimedCheckpoint:
    """Three statements, however many sets there are: a job's token is one secret with its own number behind it."""
    said = {"of": row.id, "launch": launch_id, "at": now, "secret": secrets.token_hex(16) + "-"}
    mine = tx.execute(_CLAIM, said).all()
    if not mine:
        return _claimed_checkpoint(row, ())
    opened = [{"job_id": j.id, "launch_id": launch_id, "token": j.token, "claimed_at": now} for j in mine]
    attempt_of: dict[int, int] = {r.job_id: r.id for r in tx.execute(_OPEN_ATTEMPTS, opened)}
    name_of: dict[int, str] = {r.id: r.name for r in tx.execute(_SET_NAMES, {"ids": [j.eval_set_id for j in mine]})}
    claimed = [
        ClaimedJob(
            *(j.id, attempt_of[j.id], j.token, j.eval_set_id, name_of[j.eval_set_id]),
            JobFacts(j.id, j.charged, j.orphaned),
        )
        for j in sorted(mine, key=lambda j: j.eval_set_id)
    ]
    return _claimed_checkpoint(row, tuple(claimed))


def _claimed_checkpoint(row, claimed: tuple[ClaimedJob, ...]) -> ClaimedCheckpoint:
    exact = row.raw_path.decode("utf-8", "surrogateescape") if row.raw_path else row.path
    return ClaimedCheckpoint(
        *(row.id, row.run, exact, row.path, row.digest, row.size_bytes, row.step, row.spool_path, claimed)
    )
