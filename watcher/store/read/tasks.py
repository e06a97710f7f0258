"""Questions about tasks: the scores of items, scores that `results` has no column for, and the aggregates of suites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, text

from evalcore.tasks.item_scores import ItemScores, ItemScoresError, unpack
from evalcore.tasks.suite_mean import error_of_mean, mean_of
from watcher.store.engine import Store
from watcher.store.schema import eval_sets, task_items

Row = dict[str, Any]
KEPT_MAX = 16  # some megabytes each
BEHIND = ("accuracy_norm_stderr", "bits_per_byte_stderr", "ppl_item")


class KeptItems:
    """Result id -> the scores of its items; read when asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, ItemScores | None] = {}

    def get(self, result_id: int) -> ItemScores | None:
        """None where no items are kept for this result, or none that can be read."""
        if result_id not in self._known:
            with self._store.read() as tx:
                packed = tx.execute(select(task_items.c.scores).where(task_items.c.result_id == result_id)).scalar()
            if len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[result_id] = _unpacked(packed)
        return self._known[result_id]


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


def with_scores(store: Store, rows: Sequence[Row]) -> list[Row]:
    """The rows, those of tasks with the columns of `task_items` beside those of `results`."""
    ids = [row["id"] for row in rows if row.get("task") is not None]
    scores: dict[int, Row] = {}
    columns = [task_items.c.result_id, *(task_items.c[name] for name in BEHIND)]
    with store.read() as tx:
        for start in range(0, len(ids), 500):
            query = select(*columns).where(task_items.c.result_id.in_(ids[start : start + 500]))
            scores |= {row.result_id: {name: getattr(row, name) for name in BEHIND} for row in tx.execute(query)}
    nothing: Row = dict.fromkeys(BEHIND)
    return [{**row, **scores.get(row["id"], nothing)} if row.get("task") is not None else row for row in rows]


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


def _unpacked(packed: bytes | None) -> ItemScores | None:
    try:
        return None if packed is None else unpack(packed)
    except ItemScoresError:
        return None
