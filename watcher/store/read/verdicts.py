"""What became of given runs or checkpoints: their failures, and how many there are. Read only.

The views' own SQL is used, not the views, so that a view which a user dropped or replaced changes nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, text

from watcher.store.engine import Store
from watcher.store.read.typed import result_dicts
from watcher.store.schema import candidates, checkpoints, eval_sets, jobs, results
from watcher.store.views import VIEWS


def failures(store: Store, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the view `failures` of these runs."""
    sql = f"SELECT * FROM ({VIEWS['failures']}) AS failures WHERE run IN :runs ORDER BY at"
    query = text(sql).bindparams(bindparam("runs", expanding=True))
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query, {"runs": list(runs)}).mappings()]


def queued(store: Store) -> list[dict[str, Any]]:
    """All rows of the view `queue`, next first."""
    query = text(f"SELECT * FROM ({VIEWS['queue']}) AS queue ORDER BY state DESC, priority DESC, enqueued_at DESC")
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def failed(store: Store) -> list[dict[str, Any]]:
    """The rows of the view `failures`, each with its job; job is None for a file that was never registered."""
    c, e, j, k = checkpoints.c, eval_sets.c, jobs.c, candidates.c
    failed_jobs = (
        select(
            *(j.id.label("job"), j.run, c.path.label("checkpoint"), c.step, e.name.label("eval_set")),
            *(j.kind, j.reason, j.charged.label("attempts"), j.finished_at.label("at")),
        )
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(j.state == "failed")
    )
    rejected = select(k.run, k.path.label("checkpoint"), k.kind, k.reason, k.at).where(k.final == 1)
    absent = {"job": None, "step": None, "eval_set": None, "attempts": 0}
    with store.read() as tx:
        rows = [dict(row) for row in tx.execute(failed_jobs).mappings()]
        rows += [{**absent, **row} for row in tx.execute(rejected).mappings()]
    return sorted(rows, key=lambda row: row["at"] or "")


def standing_results(store: Store, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Result rows of these runs on their current sets, in order of step."""
    r, e = results.c, eval_sets.c
    current = (e.run == r.run) & (e.name == r.eval_set) & (e.digest == r.eval_digest) & (e.current == 1)
    query = select(results).join(eval_sets, current).where(r.run.in_(list(runs))).order_by(r.run, r.step, r.id)
    with store.read() as tx:
        return result_dicts(store, tx.execute(query).mappings())


def seen(store: Store, runs: Sequence[str]) -> int:
    """How many checkpoints and irregular files of these runs are known."""
    with store.read() as tx:
        return sum(
            tx.execute(select(func.count()).select_from(table).where(table.c.run.in_(list(runs)))).scalar_one()
            for table in (checkpoints, candidates)
        )


def of_checkpoints(
    store: Store, checkpoint_ids: Sequence[int], set_ids: Sequence[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(results, failed jobs) of these checkpoints on these sets."""
    r, c, e, j = results.c, checkpoints.c, eval_sets.c, jobs.c
    same = (r.run == c.run) & (r.checkpoint == c.path) & (r.checkpoint_digest == c.digest)
    defined = (e.run == r.run) & (e.name == r.eval_set) & (e.digest == r.eval_digest)
    good = (
        select(results)
        .join(checkpoints, same)
        .join(eval_sets, defined)
        .where(c.id.in_(checkpoint_ids), e.id.in_(set_ids))
    )
    bad = (
        select(c.path.label("checkpoint"), e.name.label("eval_set"), j.state, j.kind, j.reason, j.hint)
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(c.id.in_(checkpoint_ids), e.id.in_(set_ids), j.state.in_(("failed", "cancelled")))
    )
    with store.read() as tx:
        rows = result_dicts(store, tx.execute(good.order_by(r.run, r.step, r.id)).mappings())
        return rows, [dict(row) for row in tx.execute(bad).mappings()]


def lowest_elsewhere(store: Store, row: dict[str, Any]) -> dict[str, Any] | None:
    """The best other result of the same run on the same set definition: what a new number compares with."""
    r = results.c
    query = (
        select(results)
        .where(r.run == row["run"], r.eval_set == row["eval_set"], r.eval_digest == row["eval_digest"])
        .where(r.checkpoint_digest != row["checkpoint_digest"], r.finite == 1)
        .order_by(r.loss)
        .limit(1)
    )
    with store.read() as tx:
        found = tx.execute(query).mappings().first()
        return dict(found) if found else None
