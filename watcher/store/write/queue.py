"""The verb `claim`: the next checkpoint that is due, with all its due jobs, for one launch.

Every UPDATE repeats the state it comes from: daemons that share a server never take the same job.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Select, Text, and_, bindparam, cast, func, insert, or_, select, update

from evalcore.device_memory import ModelSize, model_size
from watcher.domain.job import SAMPLE_PRIORITY, JobFacts, State
from watcher.store.engine import Store
from watcher.store.schema import attempts, checkpoints, eval_sets, jobs
from watcher.store.schema import launches as launches_table
from watcher.store.write import averages, copies, launches
from watcher.store.write.claimed import ClaimedCheckpoint, ClaimedJob, claimed_checkpoint

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
    .where(jobs.c.priority + 0 > SAMPLE_PRIORITY)  # texts are not copied: no loss waits for them
    .limit(1)
)
# What may be claimed at :at.
DUE = and_(
    jobs.c.state == State.QUEUED, or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("at", type_=Text))
)
_LEAST = bindparam("least", type_=Integer)  # priority: SAMPLE_PRIORITY lets samples in
_CLAIM = (
    update(jobs)
    .where(
        jobs.c.checkpoint_id == bindparam("of"), DUE, jobs.c.priority + 0 >= _LEAST
    )  # + 0: by its checkpoint, not the index of priorities
    .values(state=State.RUNNING, launch_id=bindparam("launch"), claimed_at=bindparam("at"))
    .values(token=bindparam("secret", type_=Text) + cast(jobs.c.id, Text))
    .returning(jobs.c.id, jobs.c.eval_set_id, jobs.c.charged, jobs.c.orphaned, jobs.c.token, jobs.c.again)
)
_OPEN_ATTEMPTS = insert(attempts).returning(attempts.c.job_id, attempts.c.id)
_OPEN_LAUNCH = insert(launches_table)
_SETS = select(eval_sets.c.id, eval_sets.c.name, eval_sets.c.digest).where(
    eval_sets.c.id.in_(bindparam("ids", expanding=True))
)
CLAIM_LOOKS_AT = 32  # queued jobs, in order: more than can be in other hands or wait for their copy


@cache
def _next_due(oldest_first: bool, among: bool) -> Select[tuple[int]]:
    """Checkpoints of due jobs in order. Built once: to put it together takes longer than to run it."""
    query = select(jobs.c.checkpoint_id).where(
        DUE, jobs.c.priority >= _LEAST, jobs.c.run.in_(bindparam("runs", expanding=True))
    )
    if among:
        query = query.where(jobs.c.checkpoint_id.in_(bindparam("among", expanding=True)))
    order = (jobs.c.order_key, jobs.c.id)
    query = query.order_by(jobs.c.priority.desc(), *(key.asc() if oldest_first else key.desc() for key in order))
    return query.limit(CLAIM_LOOKS_AT)


def claim_next(
    store: Store,
    runs_order: Mapping[str, str],
    launch_id: str,
    now: str,
    only: Sequence[int] | None = None,
    opens: Mapping[str, Any] | None = None,
    *,
    samples: bool = False,
) -> ClaimedCheckpoint | None:
    """Claim every due job of the next checkpoint. runs_order: run -> newest|oldest. only: these checkpoints first.

    opens: the row of a launch that begins with this claim. samples: where nothing else is due, the samples of a
    checkpoint; without it none, but those that a user bumped. None when nothing is due. A checkpoint whose content is
    being evaluated under another path waits for its copy. Daemons that share a server never wait for one another.
    """
    oldest_first = all(order == "oldest" for order in runs_order.values())
    wanted = {"runs": list(runs_order), "at": now} | ({"among": list(only)} if only else {})
    with store.write() as tx:
        for least in (0, SAMPLE_PRIORITY) if samples else (0,):
            due = tx.execute(_next_due(oldest_first, bool(only)), {**wanted, "least": least}).scalars().all()
            for checkpoint_id in dict.fromkeys(due):
                row = tx.execute(_LOCKED_CHECKPOINT, {"wanted": checkpoint_id}).first()
                if row is None or tx.execute(_CONTENT_RUNS, {"wanted": checkpoint_id}).first() is not None:
                    continue
                claimed = _claim(tx, row, launch_id, now, least)
                if claimed.jobs:
                    if opens is not None:
                        lease = launches.first_lease(store)  # an expression: the server's own clock
                        tx.execute(_OPEN_LAUNCH.values(lease) if lease else _OPEN_LAUNCH, dict(opens))
                    return claimed
        return None


def next_due(store: Store, runs: Collection[str]) -> str | None:
    """When the next job of these runs may be claimed; None where none is queued, "" where one is due already."""
    queued = (jobs.c.state == State.QUEUED, jobs.c.run.in_(list(runs)))
    with store.read() as tx:
        if tx.execute(select(jobs.c.id).where(*queued, jobs.c.not_before.is_(None)).limit(1)).first():
            return ""
        return tx.execute(select(func.min(jobs.c.not_before)).where(*queued)).scalar()


def largest_waiting(store: Store, runs: Collection[str]) -> ModelSize | None:
    """The largest queued checkpoint of these runs, by parameters; None where none is known."""
    c = checkpoints.c
    waiting = select(c.parameters, c.family, c.config).join(jobs, jobs.c.checkpoint_id == c.id)
    queued = waiting.where(jobs.c.state == State.QUEUED, jobs.c.run.in_(list(runs)), c.parameters.is_not(None))
    with store.read() as tx:
        row = tx.execute(queued.order_by(c.parameters.desc()).limit(1)).first()
    return None if row is None else model_size(*row)


def _claim(tx: Connection, row, launch_id: str, now: str, least: int) -> ClaimedCheckpoint:
    """Three statements, however many sets there are: a job's token is one secret with its own number behind it."""
    values = {"of": row.id, "launch": launch_id, "at": now, "secret": secrets.token_hex(16) + "-", "least": least}
    rows = tx.execute(_CLAIM, values).all()
    if not rows:
        return claimed_checkpoint(row, ())
    opened = [{"job_id": j.id, "launch_id": launch_id, "token": j.token, "claimed_at": now} for j in rows]
    attempt_of: dict[int, int] = {r.job_id: r.id for r in tx.execute(_OPEN_ATTEMPTS, opened)}
    set_of: dict[int, Any] = {r.id: r for r in tx.execute(_SETS, {"ids": [j.eval_set_id for j in rows]})}
    known = copies.known_contents(tx, row.run, row.digest, row.model_digest)
    claimed = [
        ClaimedJob(
            *(j.id, attempt_of[j.id], j.token, j.eval_set_id, set_of[j.eval_set_id].name),
            JobFacts(j.id, j.charged, j.orphaned),
            () if j.again else known.get(set_of[j.eval_set_id].digest, ()),
        )
        for j in sorted(rows, key=lambda j: j.eval_set_id)
    ]
    return claimed_checkpoint(row, tuple(claimed), averages.members_of(tx, row.id) if row.weights is not None else ())
