"""Questions about results: which rows, which stand, what prune may delete. Never writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select

from watcher.domain.metrics import headline
from watcher.store.engine import Store
from watcher.store.read.typed import result_dicts
from watcher.store.schema import checkpoints, eval_sets, jobs, results, runs

RESULT_COLUMNS = tuple(column.name for column in results.columns)
#: name -> int, float or str, for filters.
COLUMN_TYPES: dict[str, type] = {column.name: column.type.python_type for column in results.columns}
Row = dict[str, Any]


@dataclass(frozen=True)
class ResultFilter:
    """Which results. steps: first and last, both included; None is open. standing: only what curves are made of.

    conditions: (column, operator, value), all of which hold; operators as SQL writes them.
    """

    run: str | None = None
    eval_set: str | None = None
    steps: tuple[int | None, int | None] = (None, None)
    standing: bool = False
    conditions: Sequence[tuple[str, str, Any]] = ()


def result_rows(store: Store, wanted: ResultFilter = ResultFilter()) -> list[Row]:
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
    query = query.where(*(_holds(*condition) for condition in wanted.conditions))
    order: Any = r.saved_at
    if wanted.standing:  # of several files of one step the one observed last comes last
        c = checkpoints.c
        same = and_(c.run == r.run, c.path == r.checkpoint, c.digest == r.checkpoint_digest)
        query, order = query.outerjoin(checkpoints, same), func.coalesce(c.observed_at, r.saved_at)
    query = query.order_by(r.run, r.eval_set, r.step.is_(None), r.step, order, r.id)
    with store.read() as tx:
        return result_dicts(store, tx.execute(query).mappings())


def _holds(column: str, operator: str, value: Any) -> Any:
    left = results.c[column]
    if operator in ("is null", "is not null"):
        return left.is_(None) if operator == "is null" else left.is_not(None)
    return left.op(operator, is_comparison=True)(value)


def count_standing(store: Store, of_runs: Sequence[str]) -> int:
    """How many results of these runs stand on their current sets."""
    r, e = results.c, eval_sets.c
    current = and_(e.run == r.run, e.name == r.eval_set, e.digest == r.eval_digest, e.current == 1)
    query = select(func.count()).select_from(results.join(eval_sets, current))
    with store.read() as tx:
        return tx.execute(query.where(r.run.in_(list(of_runs)), r.superseded == 0)).scalar_one()


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


def run_numbers(store: Store) -> dict[str, int]:
    """The number of each run in the database: the colour of a run follows from it."""
    with store.read() as tx:
        return {row.name: row.id for row in tx.execute(select(runs.c.name, runs.c.id))}


def last_results(store: Store, count: int) -> list[Row]:
    """The newest results, newest first."""
    query = select(results).order_by(results.c.evaluated_at.desc(), results.c.id.desc()).limit(count)
    with store.read() as tx:
        return result_dicts(store, tx.execute(query).mappings())


def prunable_facts(store: Store) -> list[Row]:
    """Every standing checkpoint file with its run's folder, fingerprint, unfinished jobs, and its standing results."""
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
            results.c.superseded == 0,
        )
        .scalar_subquery()
    )
    query = (
        select(checkpoints, runs.c.dir, unfinished.label("unfinished"), measured.label("measured"))
        .select_from(checkpoints.join(runs, runs.c.name == checkpoints.c.run))
        .where(checkpoints.c.superseded == 0, checkpoints.c.weights.is_(None))
        .order_by(checkpoints.c.run, checkpoints.c.step.is_(None), checkpoints.c.step, checkpoints.c.saved_at)
    )
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def of_checkpoints(store: Store, checkpoint_ids: Sequence[int], set_ids: Sequence[int]) -> tuple[list[Row], list[Row]]:
    """(standing results, failed jobs) of these checkpoints on these sets."""
    r, c, e, j = results.c, checkpoints.c, eval_sets.c, jobs.c
    same = (r.run == c.run) & (r.checkpoint == c.path) & (r.checkpoint_digest == c.digest)
    same &= (r.model_digest == c.model_digest) | (r.model_digest.is_(None) & (r.superseded == 0))
    defined = (e.run == r.run) & (e.name == r.eval_set) & (e.digest == r.eval_digest)
    good = (
        select(results)
        .join(checkpoints, same)
        .join(eval_sets, defined)
        .where(c.id.in_(checkpoint_ids), e.id.in_(set_ids), r.superseded == 0)
    )
    bad = (
        select(c.path.label("checkpoint"), e.name.label("eval_set"), j.state, j.kind, j.reason, j.hint)
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(c.id.in_(checkpoint_ids), e.id.in_(set_ids), j.state.in_(("failed", "cancelled")))
    )
    with store.read() as tx:
        rows = result_dicts(store, tx.execute(good.order_by(r.run, r.step, r.id)).mappings())
        return rows, [dict(row) for row in tx.execute(bad).mappings()]


def lowest_elsewhere(store: Store, row: Row) -> Row | None:
    """The best other result of the same run on the same set definition: what a new number compares with."""
    r, metric = results.c, headline(row)
    value = r[metric.value]
    query = (
        select(results)
        .where(r.run == row["run"], r.eval_set == row["eval_set"], r.eval_digest == row["eval_digest"])
        .where(r.checkpoint_digest != row["checkpoint_digest"], r.finite == 1, r.superseded == 0)
        .where(r.weights.is_not_distinct_from(row["weights"]))
        .where(value.is_not(None))
        .order_by(value.desc() if metric.higher_is_better else value)
        .limit(1)
    )
    with store.read() as tx:
        lowest = tx.execute(query).mappings().first()
        return dict(lowest) if lowest else None
