"""The curves of suites: the mean over a suite's tasks at each checkpoint that has all of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from watcher.store.engine import Store
from watcher.store.read.suites import SuiteScore, suite_scores
from watcher.store.schema import checkpoints, runs

Row = dict[str, Any]


def suite_curves(store: Store) -> list[Row]:
    """`suite, run_id, run, weights, rows` of each run and suite, by suite and run.

    rows, by step: `step, id, saved_at, tokens_seen, finite` and the columns of `domain.metrics.SUITE`; `id` is the
    checkpoint's. A checkpoint that lacks a member has no row.
    """
    of_curve: dict[tuple[str, str, str], list[SuiteScore]] = {}
    for score in suite_scores(store):
        if score.value is not None:
            of_curve.setdefault((score.suite, score.run, score.weights or ""), []).append(score)
    with store.read() as tx:
        numbers = {row.name: row.id for row in tx.execute(select(runs.c.name, runs.c.id))}
    known = {run: _checkpoints(store, run) for run in {run for _, run, _ in of_curve} & set(numbers)}
    curves: list[Row] = []
    for suite, run, weights in sorted(of_curve, key=lambda key: (key[0], numbers.get(key[1], 0), key[2])):
        scores = [score for score in of_curve[suite, run, weights] if score.checkpoint in known.get(run, {})]
        rows = [{**known[run][score.checkpoint], **_point(score)} for score in scores]
        if rows:
            curves.append(
                {"suite": suite, "run_id": numbers[run], "run": run, "weights": weights or None, "rows": rows}
            )
    return curves


def _point(score: SuiteScore) -> Row:
    return {"step": score.step, "finite": 1, "suite_mean": score.value, "suite_stderr": score.stderr}


def _checkpoints(store: Store, run: str) -> dict[str, Row]:
    """By path, the version that was observed last."""
    c = checkpoints.c
    query = select(c.path, c.id, c.saved_at, c.tokens_seen).where(c.run == run).order_by(c.observed_at, c.id)
    with store.read() as tx:
        return {row.path: dict(zip(("id", "saved_at", "tokens_seen"), row[1:], strict=True))
                for row in tx.execute(query)}  # fmt: skip
