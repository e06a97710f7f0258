"""The verb `average`: means of checkpoints become versions with jobs of their own.

Of each run and specification one row is `waiting`: its members are those of the newest mean, which the next one will
take, too; they stay pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from watcher.domain.averages import AverageSpec, MemberVersion, joined, members_digest
from watcher.domain.job import State
from watcher.store.engine import Store
from watcher.store.schema import average_members, averages, checkpoints, jobs
from watcher.store.write import versions
from watcher.store.write.eval_sets import EvalSetRow
from watcher.store.write.runs import run_lock

_c, _a, _m = checkpoints.c, averages.c, average_members.c
_UNDER_WAY = (State.QUEUED, State.RUNNING)
#: What a mean takes over from its newest member.
_SAME = (
    *("family", "parameters", "size_bytes", "dev", "inode", "mtime_ns", "ctime_ns", "step", "step_source"),
    *("payload_step", "name_step", "tokens_seen", "config", "saved_at", "assumed", "model_digest", "model_settings"),
    "observed_at",
)
MEMBER_CHANGED = "a member was saved again, or an older file was put back over it"


def mark_of(store: Store, run: str) -> tuple[int, str]:
    """What changes where a version is registered or observed again: the highest number and the newest observation."""
    query = select(func.max(_c.id), func.max(_c.observed_at)).where(_c.run == run, _c.weights.is_(None))
    with store.read() as tx:
        row = tx.execute(query).one()
    return row[0] or 0, row[1] or ""


def plan_averages(
    store: Store, run: str, specs: Sequence[AverageSpec], sets: Sequence[EvalSetRow], now: str
) -> list[str]:
    """Make the means that new checkpoints complete, with a job for each set; their paths. Again changes nothing."""
    with store.write(alone=run_lock(run)) as tx:
        _supersede_stale(tx, run, now)
        return [path for spec in specs for path in _plan(tx, run, spec, sets, now)]


def settle_averages(store: Store) -> None:
    """Means whose jobs have all ended release their members."""
    ended = ~exists().where(jobs.c.checkpoint_id == _a.checkpoint_id, jobs.c.state.in_(_UNDER_WAY))
    done = (_a.state == "ready", ended)
    with store.read() as tx:
        if tx.execute(select(_a.id).where(*done).limit(1)).first() is None:
            return
    with store.write() as tx:
        tx.execute(update(averages).where(*done).values(state="final"))


def members_of(tx: Connection, checkpoint_id: int) -> list[Any]:
    """The versions that a mean is made of, the newest first, each with its `weight`."""
    query = (
        select(checkpoints, _m.weight)
        .select_from(
            average_members.join(averages, _m.average_id == _a.id).join(checkpoints, _m.checkpoint_id == _c.id)
        )
        .where(_a.checkpoint_id == checkpoint_id)
        .order_by(_m.position)
    )
    return list(tx.execute(query).all())


def _plan(tx: Connection, run: str, spec: AverageSpec, sets: Sequence[EvalSetRow], now: str) -> list[str]:
    waiting = tx.execute(
        select(_a.id, _a.newest_id).where(_a.run == run, _a.spec == spec.name, _a.state == "waiting")
    ).first()
    members = _candidates(tx, select(_m.checkpoint_id).where(_m.average_id == waiting.id)) if waiting else []
    newer = select(_c.id).where(_c.run == run, _c.weights.is_(None), _c.undone == 0)
    fresh = _candidates(tx, newer.where(_c.id > waiting.newest_id) if waiting else newer)
    if not fresh:
        return []
    made: list[str] = []
    members = [member for member in members if member.readable]
    for new in reversed(fresh):  # the oldest first
        if not spec.takes(new.step) or not new.readable:
            continue
        before, members = members, joined(members, new)[: spec.most]
        if members != before and len(members) >= spec.fewest and _is_evaluated(tx, new.id):
            made.append(_make(tx, run, spec, members, sets, now))
    lacking = len(members) < spec.fewest
    reason = f"{len(members)} of {spec.fewest} checkpoints so far" if lacking else None
    _wait(tx, run, spec, waiting.id if waiting else None, fresh[0], members, reason, now)
    return made


def _candidates(tx: Connection, ids: Any) -> list[MemberVersion]:
    """The newest registered first."""
    query = select(_c.id, _c.path, _c.digest, _c.step, _c.superseded, _c.spool_path).where(_c.id.in_(ids))
    return [
        MemberVersion(row.id, row.path, row.digest, row.step, row.superseded == 0 or row.spool_path is not None)
        for row in tx.execute(query.order_by(_c.id.desc()))
    ]


def _is_evaluated(tx: Connection, checkpoint_id: int) -> bool:
    """Whether stride and backfill leave it a job."""
    wanted = or_(jobs.c.kind.is_(None), jobs.c.kind != "skipped")
    return (
        tx.execute(select(jobs.c.id).where(jobs.c.checkpoint_id == checkpoint_id, wanted).limit(1)).first() is not None
    )


def _make(
    tx: Connection, run: str, spec: AverageSpec, members: Sequence[MemberVersion], sets: Sequence[EvalSetRow], now: str
) -> str:
    weights = spec.weights(len(members))
    taken = members[: len(weights)]
    digest, path = members_digest(taken, weights), f"{taken[0].path}#{spec.name}"
    newest = tx.execute(select(checkpoints).where(_c.id == taken[0].id)).one()
    if tx.execute(select(_c.id).where(_c.run == run, _c.path == path, _c.digest == digest)).first() is not None:
        return path
    values = {name: getattr(newest, name) for name in _SAME}
    values |= {"run": run, "path": path, "digest": digest, "format": "mean", "weights": spec.name, "registered_at": now}
    checkpoint_id = tx.execute(insert(checkpoints).values(values).returning(_c.id)).scalar_one()
    facts = {"run": run, "spec": spec.name, "weights": spec.name, "newest_id": newest.id, "path": path, "at": now}
    average_id = tx.execute(
        insert(averages).values(**facts, digest=digest, checkpoint_id=checkpoint_id, state="ready").returning(_a.id)
    ).scalar_one()
    _set_members(tx, average_id, taken, weights)
    for eval_set in sets:
        job = {"checkpoint_id": checkpoint_id, "eval_set_id": eval_set.id, "run": run, "enqueued_at": now}
        job |= {"order_key": newest.mtime_ns - 1, "model_digest": newest.model_digest, "state": State.QUEUED}
        job["priority"] = eval_set.priority
        tx.execute(insert(jobs).values(job))  # after its newest member, where the newest is first
    return path


def _wait(
    tx: Connection, run: str, spec: AverageSpec, waiting: int | None, newest: MemberVersion,
    members: Sequence[MemberVersion], reason: str | None, now: str,
) -> None:  # fmt: skip
    """What the next mean will take. reason: why there is none yet."""
    weights = [1.0] * len(members)
    values = {"newest_id": newest.id, "path": f"{newest.path}#{spec.name}", "reason": reason, "at": now}
    values["digest"] = members_digest(members, weights)
    if waiting is None:
        row = {"run": run, "spec": spec.name, "weights": spec.name, "state": "waiting", **values}
        waiting = tx.execute(insert(averages).values(row).returning(_a.id)).scalar_one()
    else:
        tx.execute(update(averages).where(_a.id == waiting).values(values))
        tx.execute(delete(average_members).where(_m.average_id == waiting))
    _set_members(tx, waiting, members, weights)


def _set_members(tx: Connection, average_id: int, members: Sequence[MemberVersion], weights: Sequence[float]) -> None:
    rows = [
        {"average_id": average_id, "position": position, "checkpoint_id": member.id, "weight": weight}
        for position, (member, weight) in enumerate(zip(members, weights, strict=True))
    ]
    if rows:
        tx.execute(insert(average_members), rows)


def _supersede_stale(tx: Connection, run: str, now: str) -> None:
    """A mean of a version that is undone, or of a step that was saved again to the same path, stands no longer."""
    later = checkpoints.alias("later")
    again = exists().where(
        *(later.c.run == _c.run, later.c.path == _c.path, later.c.id > _c.id, later.c.undone == 0),
        or_(later.c.step == _c.step, and_(later.c.step.is_(None), _c.step.is_(None))),
    )
    stale = tx.execute(
        select(_a.id, _a.path, _a.checkpoint_id)
        .distinct()
        .select_from(
            averages.join(average_members, _m.average_id == _a.id).join(checkpoints, _m.checkpoint_id == _c.id)
        )
        .where(_a.run == run, _a.state.in_(("ready", "final")), or_(_c.undone == 1, again))
    ).all()
    for row in stale:
        tx.execute(update(averages).where(_a.id == row.id).values(state="superseded", reason=MEMBER_CHANGED))
        tx.execute(update(checkpoints).where(_c.id == row.checkpoint_id).values(superseded=1, undone=1))
        over = {"state": State.CANCELLED, "kind": "superseded", "reason": MEMBER_CHANGED, "finished_at": now}
        waiting = (jobs.c.checkpoint_id == row.checkpoint_id, jobs.c.state == State.QUEUED)
        tx.execute(update(jobs).where(*waiting).values(over))
        versions.restand(tx, run, row.path, now)
