"""Questions that the dashboard asks. Reads only; each method is one short transaction on a connection of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from watcher.store.engine import Store
from watcher.store.read import queue
from watcher.store.read.suites import SuiteScore, suite_scores
from watcher.store.read.typed import lenient
from watcher.store.schema import OPEN_ATTEMPT, REVISION

Row = dict[str, Any]

_RESULT = """
    SELECT r.*, c.id AS checkpoint_id, u.id AS run_id FROM results r
    LEFT JOIN runs u ON u.name = r.run
    LEFT JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
"""
#: One run on one set as it is defined now; only versions that stand, and no means of checkpoints.
_CELL = "r.run = :run AND r.eval_set = :eval_set AND r.eval_digest = :digest AND r.superseded = 0 AND r.weights IS NULL"
_JOB = """
    SELECT j.id AS job, j.run, j.checkpoint_id, c.path AS checkpoint, c.step, e.name AS eval_set,
           e.kind AS set_kind, j.state, j.kind, j.reason, j.hint, j.priority, j.charged AS attempts, j.not_before,
           j.enqueued_at, j.claimed_at, j.finished_at, j.launch_id AS launch
    FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
"""


@dataclass(frozen=True)
class Pages:
    """The database as the dashboard sees it."""

    store: Store

    def stamp(self) -> str:
        """Changes when SQLite's files were written; "" on a server, which must be asked."""
        path, parts = self.store.path, []
        for suffix in ("", "-wal", "-journal") if path is not None else ():
            try:
                status = os.stat(f"{path}{suffix}")
            except OSError:
                continue
            parts.append(f"{suffix}{status.st_ino}.{status.st_mtime_ns}.{status.st_size}")
        return " ".join(parts)

    def pulse(self) -> str:
        """Changes whenever a page could show something new: counts and newest ids."""
        row = self._one(
            """SELECT (SELECT max(id) FROM results) AS newest,
                      (SELECT max(id) FROM checkpoints) AS checkpoint, (SELECT max(id) FROM events) AS event,
                      (SELECT max(at) FROM candidates) AS verdict, (SELECT max(id) FROM samples) AS sample,
                      (SELECT max(id) FROM annotations) AS note, (SELECT count(*) FROM annotations) AS notes,
                      (SELECT count(*) FROM jobs WHERE state = 'failed') AS failed,
                      (SELECT count(*) FROM jobs WHERE state = 'queued') AS queued,
                      (SELECT count(*) FROM jobs WHERE state = 'running') AS running,
                      (SELECT count(*) FROM exports WHERE state = 'pending') AS pending"""
        )
        return ":".join(str(value) for value in row.values())

    def runs(self) -> list[Row]:
        return self._all(
            f"""SELECT u.id, u.name, u.dir, u.created_at, u.last_scan_at, u.rotates, u.ignored,
                      (SELECT count(*) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS checkpoints,
                      (SELECT max(c.saved_at) FROM checkpoints c WHERE c.run = u.name) AS newest_saved_at,
                      (SELECT max(c.step) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS newest_step,
                      (SELECT count(*) FROM results r WHERE r.run = u.name) AS results,
                      {queue.FAILED_OF_RUN} AS failed
               FROM runs u ORDER BY u.id"""
        )

    def run_names(self) -> list[Row]:
        return self._all("SELECT id, name, ignored FROM runs ORDER BY id")

    def set_names(self) -> list[Row]:
        return self._all("SELECT DISTINCT name FROM eval_sets WHERE kind <> 'sample' ORDER BY name")

    def newest_results(self, limit: int) -> list[Row]:
        return self._all(f"{_RESULT} ORDER BY r.id DESC LIMIT :limit", limit=limit)

    def results(self, run: int | None, eval_set: str | None, after_id: int, limit: int) -> list[Row]:
        """Rows in order of their id, for a client that asks again from the last id it has."""
        where = ["r.id > :after_id"]
        where += ["u.id = :run"] if run is not None else []
        where += ["r.eval_set = :eval_set"] if eval_set is not None else []
        query = f"{_RESULT} WHERE {' AND '.join(where)} ORDER BY r.id LIMIT :limit"
        return self._all(query, after_id=after_id, run=run, eval_set=eval_set, limit=limit)

    def best_accuracy(self) -> list[Row]:
        """Highest accuracy of each run on each current task."""
        tasks = """SELECT e.run, e.name AS eval_set, e.digest FROM eval_sets e JOIN runs u ON u.name = e.run
                   WHERE e.current = 1 AND e.kind = 'task' ORDER BY u.id, e.name"""
        order = "ORDER BY r.accuracy DESC, r.step, r.id LIMIT 1"
        query = f"{_RESULT} WHERE {_CELL} AND r.accuracy IS NOT NULL {order}"
        return [row for cell in self._all(tasks) for row in self._all(query, **cell)]

    def suites(self) -> list[SuiteScore]:
        return suite_scores(self.store)

    def counts(self) -> dict[str, int]:
        return queue.count_by_state(self.store)

    def sample_counts(self) -> dict[str, int]:
        return queue.count_by_state(self.store, samples=True)

    def oldest_waiting_at(self) -> str | None:
        return queue.oldest_waiting_at(self.store)

    def cells_of(self, checkpoint_ids: Sequence[int]) -> dict[int, list[Row]]:
        """Of each checkpoint its jobs by set, each with its standing loss."""
        cells: dict[int, list[Row]] = {number: [] for number in checkpoint_ids}
        if not cells:
            return cells
        ids = ",".join(str(int(number)) for number in cells)
        losses = self._all(
            f"""SELECT c.id AS checkpoint_id, r.eval_set, r.loss, r.accuracy, r.finite FROM results r
                JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
                JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest
                 AND e.current = 1 WHERE c.id IN ({ids})"""
        )
        known = {(row["checkpoint_id"], row["eval_set"]): row for row in losses}
        for job in self._all(f"{_JOB} WHERE j.checkpoint_id IN ({ids}) ORDER BY e.id"):
            key = (job["checkpoint_id"], job["eval_set"])
            cells[job["checkpoint_id"]].append({**job, **known.pop(key, {})})
        for (number, name), row in sorted(known.items()):  # a result whose job is gone
            cells[number].append({"state": "succeeded", "kind": None, "job": None, "eval_set": name, **row})
        return cells

    def checkpoint(self, checkpoint_id: int) -> Row | None:
        rows = self._all(
            """SELECT c.*, u.dir, u.id AS run_id FROM checkpoints c LEFT JOIN runs u ON u.name = c.run
               WHERE c.id = :id""",
            id=checkpoint_id,
        )
        if not rows:
            return None
        row = {key: value for key, value in rows[0].items() if key != "raw_path"}
        row["results"] = self._all(
            f"""SELECT * FROM ({_RESULT}) AS rows WHERE checkpoint_id = :id ORDER BY eval_set, id DESC""",
            id=checkpoint_id,
        )
        row["jobs"] = self._all(f"{_JOB} WHERE j.checkpoint_id = :id ORDER BY j.id", id=checkpoint_id)
        sets = """SELECT name, digest, spec, current, suite FROM eval_sets WHERE run = :run AND kind <> 'sample'
                  ORDER BY current DESC, id"""
        row["sets"] = self._all(sets, run=row["run"])
        return row

    def running(self) -> list[Row]:
        return self._all(
            f"""SELECT q.*, u.id AS run_id, l.folder, l.device, l.world_size, attempts.id AS attempt,
                       attempts.started_at
                FROM ({_JOB}) AS q
                LEFT JOIN runs u ON u.name = q.run LEFT JOIN launches l ON l.id = q.launch
                LEFT JOIN attempts ON attempts.job_id = q.job AND {OPEN_ATTEMPT}
                WHERE q.state = 'running' ORDER BY q.claimed_at, q.job"""
        )

    def job(self, job_id: int) -> Row | None:
        rows = self._all(f"{_JOB} WHERE j.id = :id", id=job_id)
        if not rows:
            return None
        rows[0]["tries"] = self._all(
            """SELECT a.*, l.folder, l.device, l.reason AS launch_reason, l.exit_code FROM attempts a
               LEFT JOIN launches l ON l.id = a.launch_id WHERE a.job_id = :id ORDER BY a.id DESC""",
            id=job_id,
        )
        return rows[0]

    def exports(self) -> list[Row]:
        """What every sink has still to get, has got and was given up."""
        return self._all(
            """SELECT sink, state, count(*) AS n, max(done_at) AS last_done_at, max(error) AS error
               FROM exports WHERE kind NOT IN ('from', 'before') AND sink <> 'alerts'
               GROUP BY sink, state ORDER BY sink, state"""
        )

    def facts(self) -> Row:
        """What stands behind: engine, revision, size."""
        path = self.store.path
        return {
            "url": self.store.url.split("@")[-1],
            "engine": self.store.engine.dialect.name,
            "schema": self._one("SELECT version_num AS v FROM alembic_version")["v"],
            "newest_schema": REVISION,
            "size_bytes": path.stat().st_size if path is not None and path.exists() else None,
        }

    def _all(self, query: str, **values: Any) -> list[Row]:
        with self.store.read() as tx:
            used = {name: value for name, value in values.items() if f":{name}" in query}
            return [lenient(row) for row in tx.execute(text(query), used).mappings()]

    def _one(self, query: str, **values: Any) -> Row:
        return self._all(query, **values)[0]
