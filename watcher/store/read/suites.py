"""The aggregates of suites, computed from the rows of their members. Never writes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, text

from evalcore.tasks.suite_mean import error_of_mean, mean_of
from watcher.store.engine import Store
from watcher.store.schema import eval_sets


@dataclass(frozen=True)
class SuiteScore:
    """The aggregate of one suite on one checkpoint: the mean of its members' accuracy above chance.

    value: None while members are missing. stderr: of the mean, see evalcore.tasks.suite_mean. missing: names without
    the suite's.
    """

    run: str
    suite: str
    checkpoint: str
    step: int | None
    weights: str | None
    value: float | None
    stderr: float | None
    members: int
    missing: tuple[str, ...]


def suite_scores(store: Store, run: str | None = None) -> list[SuiteScore]:
    """Every checkpoint that has a result on a member of a suite, by run, suite and step; steps unknown come last.

    The same as the view `suites`, with the names of missing members; reads the rows of members only.
    """
    expected: dict[tuple[str, str], set[str]] = defaultdict(set)
    suite_of: dict[tuple[str, str], str] = {}
    e = eval_sets.c
    current = select(e.run, e.suite, e.name).where(e.current == 1, e.suite.is_not(None))
    with store.read() as tx:
        for row in tx.execute(current if run is None else current.where(e.run == run)):
            expected[(row.run, row.suite)].add(row.name)
            suite_of[(row.run, row.name)] = row.suite
        if not suite_of:
            return []
        query = """SELECT run, eval_set, checkpoint, step, weights, value, stderr FROM scores
                   WHERE metric = 'accuracy_centered' AND eval_set IN :names AND run IN :runs"""
        asked = text(query).bindparams(bindparam("names", expanding=True), bindparam("runs", expanding=True))
        names = {"names": sorted({name for _, name in suite_of}), "runs": sorted({of_run for of_run, _ in suite_of})}
        rows = tx.execute(asked, names).all()
    values_of: dict[tuple[Any, ...], dict[str, tuple[float, float | None]]] = defaultdict(dict)
    for row in rows:
        if (suite := suite_of.get((row.run, row.eval_set))) is not None:
            values_of[(row.run, suite, row.checkpoint, row.step, row.weights)][row.eval_set] = row.value, row.stderr
    scores = [_suite_score(key, values, expected[key[:2]]) for key, values in values_of.items()]
    return sorted(scores, key=lambda s: (s.run, s.suite, s.weights or "", s.step is None, s.step or 0, s.checkpoint))


def _suite_score(key: tuple[Any, ...], known: dict[str, tuple[float, float | None]], expected: set[str]) -> SuiteScore:
    run, suite, checkpoint, step, weights = key
    missing = tuple(sorted(name.removeprefix(f"{suite}/") for name in expected - set(known)))
    mean = None if missing else mean_of([value for value, _ in known.values()])
    stderr = None if missing else error_of_mean([error for _, error in known.values()])
    return SuiteScore(run, suite, checkpoint, step, weights, mean, stderr, len(known), missing)
