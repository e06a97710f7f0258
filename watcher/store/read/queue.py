"""Questions about the queue, each asked in one place: counts by state, the oldest waiting job, what runs.

Never writes; what a claim has to know stands with it in write/. The views' own SQL is used, not the views, so that a
view which a user dropped or replaced changes nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, func, not_, select, text

from watcher.domain.job import State
from watcher.domain.timestamps import seconds
from watcher.store.engine import Store
from watcher.store.schema import OPEN_ATTEMPT, attempts, candidates, checkpoints, eval_sets, jobs, launches
from watcher.store.views import VIEWS

Row = dict[str, Any]


_SAMPLE = jobs.c.eval_set_id.in_(select(eval_sets.c.id).where(eval_sets.c.kind == "sample"))
_NO_SAMPLE = not_(_SAMPLE)
#: SQL: how many losses and tasks of the run `u` have failed.
FAILED_OF_RUN = """(SELECT count(*) FROM jobs j JOIN eval_sets f ON f.id = j.eval_set_id
           WHERE j.run = u.name AND j.state = 'failed' AND f.kind <> 'sample')"""


def waiting_among(store: Store, checkpoint_ids: Sequence[int]) -> int:
    """How many losses and tasks of these checkpoints are not over."""
    unfinished = jobs.c.state.in_((State.QUEUED, State.RUNNING))
    where = (jobs.c.checkpoint_id.in_(checkpoint_ids), unfinished, _NO_SAMPLE)
    with store.read() as tx:
        return tx.execute(select(func.count()).select_from(jobs).where(*where)).scalar_one()


def count_by_state(store: Store, *, samples: bool = False) -> dict[str, int]:
    """Losses and tasks by state; samples: the jobs of `[[sample]]` instead. Samples never count as evaluations."""
    where = _SAMPLE if samples else _NO_SAMPLE
    with store.read() as tx:
        rows = tx.execute(select(jobs.c.state, func.count()).where(where).group_by(jobs.c.state))
        return {row[0]: row[1] for row in rows}


def count_unfinished(store: Store, *, samples: bool = False) -> int:
    """How many of the same wait or run."""
    counts = count_by_state(store, samples=samples)
    return counts.get(State.QUEUED, 0) + counts.get(State.RUNNING, 0)


def oldest_waiting_at(store: Store, runs: Collection[str] | None = None) -> str | None:
    """When the job that has waited longest was queued; of these runs only, where they are given.

    Samples wait until nothing else does: they do not count.
    """
    query = select(func.min(jobs.c.enqueued_at)).where(jobs.c.state == State.QUEUED, _NO_SAMPLE)
    if runs is not None:
        query = query.where(jobs.c.run.in_(list(runs)))
    with store.read() as tx:
        return tx.execute(query).scalar()


def oldest_waiting_s(store: Store, runs: Collection[str]) -> float | None:
    """The same in seconds since the epoch."""
    first = oldest_waiting_at(store, runs)
    return seconds(first) if first else None


def running_jobs(store: Store) -> list[Row]:
    """What is evaluated now: job, names, the launch's folder and device, and the open attempt."""
    query = (
        select(
            jobs.c.id.label("job"),
            jobs.c.run,
            checkpoints.c.path.label("checkpoint"),
            checkpoints.c.step,
            eval_sets.c.name.label("eval_set"),
            eval_sets.c.kind.label("set_kind"),
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
            .outerjoin(attempts, and_(attempts.c.job_id == jobs.c.id, OPEN_ATTEMPT))
        )
        .where(jobs.c.state == "running")
        .order_by(jobs.c.claimed_at, jobs.c.id)
    )
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def failure_count(store: Store) -> int:
    """Failed losses and tasks, and files with a final verdict: the rows of the view `failures`."""
    failures = select(func.count()).select_from(jobs).where(jobs.c.state == "failed", _NO_SAMPLE)
    with store.read() as tx:
        failed = tx.execute(failures).scalar_one()
        irregular = select(func.count()).select_from(candidates).where(candidates.c.final == 1)
        return failed + tx.execute(irregular).scalar_one()


def newest_failure(store: Store) -> Row | None:
    """The newest row of the view `failures`."""
    sql = f"SELECT * FROM ({VIEWS['failures']}) AS failures ORDER BY at DESC LIMIT 1"
    with store.read() as tx:
        row = tx.execute(text(sql)).mappings().first()
        return dict(row) if row is not None else None


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


def failures(store: Store, runs: Sequence[str]) -> list[Row]:
    """Rows of the view `failures` of these runs."""
    sql = f"SELECT * FROM ({VIEWS['failures']}) AS failures WHERE run IN :runs ORDER BY at"
    query = text(sql).bindparams(bindparam("runs", expanding=True))
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query, {"runs": list(runs)}).mappings()]


def seen(store: Store, runs: Sequence[str]) -> int:
    """How many checkpoints and irregular files of these runs are known."""
    with store.read() as tx:
        return sum(
            tx.execute(select(func.count()).select_from(table).where(table.c.run.in_(list(runs)))).scalar_one()
            for table in (checkpoints, candidates)
        )
