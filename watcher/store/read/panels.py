"""What the overview asks: newest and lowest result of each run and set, and the points of one panel's curves.

Each question is one statement for all runs, or one for each curve; never a row at a time. Reads only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from watcher.store.engine import Store
from watcher.store.read.queue import FAILED_OF_RUN
from watcher.store.read.suite_curves import suite_curves
from watcher.store.read.typed import lenient, lenient_column
from watcher.store.views import SCORE_SQL

Row = dict[str, Any]
IN_ONE_QUERY = 500  # ids: SQLite before 3.32 takes 999 variables at most
#: A run on a set as it is defined now; only versions that stand, and no means of checkpoints among single ones.
_STANDING = "r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest AND r.superseded = 0"
_CELL = "r.run = :run AND r.eval_set = :eval_set AND r.eval_digest = :digest AND r.superseded = 0"
_TASK = "CASE WHEN e.kind = 'task' THEN e.name END"
_SHOWN = (
    *("id", "run", "checkpoint", "step", "eval_set", "loss", "loss_stderr", "ppl", "bits_per_byte", "finite"),
    *("accuracy", "accuracy_norm", "accuracy_centered", "ppl_item", "accuracy_stderr", "logged_val_loss"),
    *("tokens_seen", "task", "weights", "tokens_per_second", "saved_at", "evaluated_at"),
)
#: Columns of `task_items`, and those that are computed from columns of `results`, as in the view `scores`.
_OF_ITEMS = ("accuracy_norm_stderr", "bits_per_byte_stderr", "ppl_item")
_COMPUTED = dict(zip(("accuracy_centered", "accuracy_centered_stderr"), SCORE_SQL["accuracy_centered"], strict=True))
_ITEMS = "LEFT JOIN task_items t ON t.result_id = r.id"


@dataclass(frozen=True)
class Panels:
    """The database as the overview sees it."""

    store: Store

    def cells(self) -> list[Row]:
        """`run_id, run, eval_set, digest, task` of every current set, with the ids of its newest and lowest result."""
        return self._all(
            f"""SELECT u.id AS run_id, e.run, e.name AS eval_set, e.digest, {_TASK} AS task,
                (SELECT r.id FROM results r WHERE {_STANDING} AND r.weights IS NULL AND r.finite = 1
                 ORDER BY r.loss, r.step, r.id LIMIT 1) AS lowest,
                (SELECT r.id FROM checkpoints c CROSS JOIN results r
                 WHERE c.run = e.run AND r.checkpoint = c.path AND r.checkpoint_digest = c.digest
                   AND {_STANDING} AND r.weights IS NULL
                 ORDER BY c.observed_at DESC, r.step DESC, r.id DESC LIMIT 1) AS observed,
                (SELECT r.id FROM results r WHERE {_STANDING} AND r.weights IS NULL
                 ORDER BY r.saved_at DESC, r.id DESC LIMIT 1) AS saved
                FROM eval_sets e JOIN runs u ON u.name = e.run WHERE e.current = 1 AND e.kind <> 'sample'
                ORDER BY u.id, e.name"""
        )

    def sets(self) -> list[Row]:
        """`name, task` of every current set; task: None for one that is no task."""
        return self._all(
            f"""SELECT e.name, max({_TASK}) AS task FROM eval_sets e
               WHERE e.current = 1 AND e.kind <> 'sample' GROUP BY e.name ORDER BY e.name"""
        )

    def suites(self) -> list[str]:
        """Names of the suites that have a task now."""
        query = "SELECT DISTINCT suite FROM eval_sets WHERE current = 1 AND suite IS NOT NULL ORDER BY suite"
        return [row["suite"] for row in self._all(query)]

    def results_by_id(self, ids: Sequence[int]) -> dict[int, Row]:
        """The columns that tables show, of these results."""
        rows: dict[int, Row] = {}
        wanted = sorted(set(ids))
        query = f"SELECT {_named(_SHOWN)} FROM results r {_ITEMS} WHERE r.id IN"
        for start in range(0, len(wanted), IN_ONE_QUERY):
            some = ",".join(str(int(each)) for each in wanted[start : start + IN_ONE_QUERY])
            rows |= {row["id"]: row for row in self._all(f"{query} ({some})")}
        return rows

    def suite_curves(self) -> list[Row]:
        return suite_curves(self.store)

    def means(self) -> list[Row]:
        """`run_id, run, eval_set, digest, task, weights` of the means of checkpoints that each run makes."""
        return self._all(
            f"""SELECT u.id AS run_id, e.run, e.name AS eval_set, e.digest, {_TASK} AS task, a.weights
               FROM (SELECT DISTINCT run, weights FROM averages) a
               JOIN eval_sets e ON e.run = a.run AND e.current = 1 AND e.kind <> 'sample' JOIN runs u ON u.name = e.run
               ORDER BY u.id, e.name, a.weights"""
        )

    def runs(self) -> list[Row]:
        """Every run: unfinished jobs by state, failed losses and tasks, and when its newest checkpoint was saved."""
        return self._all(
            f"""SELECT u.id, u.name, u.dir, u.created_at, u.last_scan_at,
                      (SELECT count(*) FROM jobs j WHERE j.run = u.name AND j.state = 'running') AS running,
                      (SELECT count(*) FROM jobs j WHERE j.run = u.name AND j.state = 'queued') AS queued,
                      {FAILED_OF_RUN} AS failed,
                      (SELECT c.saved_at FROM checkpoints c WHERE c.run = u.name
                       ORDER BY c.observed_at DESC LIMIT 1) AS newest_saved_at,
                      (SELECT max(c.step) FROM checkpoints c WHERE c.run = u.name) AS newest_step
               FROM runs u ORDER BY u.id"""
        )

    def checkpoint_of(self, result_id: int) -> int | None:
        """The checkpoint of a result."""
        rows = self._all(
            """SELECT c.id FROM results r JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint
                AND c.digest = r.checkpoint_digest WHERE r.id = :id""",
            id=result_id,
        )
        return rows[0]["id"] if rows else None

    def mark(self) -> tuple[int, str]:
        """What `touched_since` takes: the newest result and the newest observation now."""
        row = self._all(
            """SELECT coalesce((SELECT max(id) FROM results), 0) AS result, coalesce(
                 (SELECT max((SELECT max(c.observed_at) FROM checkpoints c WHERE c.run = u.name)) FROM runs u), ''
               ) AS observed_at"""  # by run: the index of observations begins with it
        )[0]
        return row["result"], row["observed_at"]

    def touched_since(self, mark: tuple[int, str]) -> tuple[set[tuple[str, str]], set[str]]:
        """((run, set) with new results, runs with a version observed since): their curves may have changed."""
        # Without the inner ORDER BY, SQLite walks an index of the whole table for DISTINCT.
        new = self._all(
            """SELECT DISTINCT run, eval_set FROM
               (SELECT run, eval_set FROM results WHERE id > :id ORDER BY id LIMIT 1000000) AS q""",
            id=mark[0],
        )
        observed = self._all(
            """SELECT u.name AS run FROM runs u WHERE EXISTS
               (SELECT 1 FROM checkpoints c WHERE c.run = u.name AND c.observed_at > :at)""",
            at=mark[1],
        )
        return {(row["run"], row["eval_set"]) for row in new}, {row["run"] for row in observed}

    def points(
        self, cell: Row, wanted: Sequence[str], steps: tuple[int | None, int | None] = (None, None)
    ) -> dict[str, Sequence[Any]]:
        """The curve's columns, by step: the newest version of each step, rows without a step last.

        cell: `run, eval_set, digest` and, for a mean of checkpoints, `weights`. wanted: columns, `step` first.
        """
        where = "r.weights = :weights" if cell.get("weights") else "r.weights IS NULL"
        where += " AND r.step >= :first" if steps[0] is not None else ""
        where += " AND r.step <= :last" if steps[1] is not None else ""
        rows = self._rows(cell, wanted, where, steps, "")
        known = [row[0] for row in rows if row[0] is not None]
        if len(set(known)) < len(known):  # several files of one step: the one observed last counts
            join = "LEFT JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint"
            join += " AND c.digest = r.checkpoint_digest"
            rows = self._rows(cell, wanted, where, steps, join)
            rows = [row for place, row in enumerate(rows) if row[0] is None or _next_step(rows, place) != row[0]]
        columns = zip(*rows, strict=True) if rows else ((),) * len(wanted)
        return {name: lenient_column(name, values) for name, values in zip(wanted, columns, strict=True)}

    def logged(self, run: str) -> dict[str, Sequence[Any]]:
        """The losses that the trainer logged, as `points` has them; `id` is the checkpoint's."""
        names = ("step", "id", "saved_at", "tokens_seen", "finite", "logged_val_loss")
        query = """SELECT c.step, c.id, c.saved_at, c.tokens_seen, 1 AS finite, c.logged_val_loss FROM checkpoints c
                   WHERE c.run = :run AND c.superseded = 0 AND c.logged_val_loss IS NOT NULL ORDER BY c.step"""
        with self.store.read() as tx:
            rows = tx.execute(text(query), {"run": run}).all()
        columns = zip(*rows, strict=True) if rows else ((),) * len(names)
        return {name: lenient_column(name, values) for name, values in zip(names, columns, strict=True)}

    def _rows(
        self, cell: Row, wanted: Sequence[str], where: str, steps: tuple[int | None, int | None], join: str
    ) -> Sequence[Any]:
        assert wanted[0] == "step"
        names = _named(wanted)
        join += f" {_ITEMS}" if any(name in _OF_ITEMS for name in wanted) else ""
        order = "coalesce(c.observed_at, r.saved_at), r.id" if "c ON" in join else "r.id"
        values = {**cell, "first": steps[0], "last": steps[1]}
        query = f"SELECT {names} FROM results r {join} WHERE {_CELL} AND {where}"
        query += f" ORDER BY r.step, {order}"  # as the index has them: sorting would take as long as reading
        with self.store.read() as tx:
            used = {name: value for name, value in values.items() if f":{name}" in query}
            rows = tx.execute(text(query), used).all()
        without = next((place for place, row in enumerate(rows) if row[0] is not None), len(rows))
        return [*rows[without:], *rows[:without]]  # SQLite puts NULL first, PostgreSQL last

    def _all(self, query: str, **values: Any) -> list[Row]:
        with self.store.read() as tx:
            return [lenient(row) for row in tx.execute(text(query), values).mappings()]


def _named(columns: Sequence[str]) -> str:
    return ", ".join(f"{_sql_of(name)} AS {name}" for name in columns)


def _sql_of(column: str) -> str:
    return _COMPUTED.get(column) or (f"t.{column}" if column in _OF_ITEMS else f"r.{column}")


def _next_step(rows: Sequence[Any], place: int) -> int | None:
    return rows[place + 1][0] if place + 1 < len(rows) else None
