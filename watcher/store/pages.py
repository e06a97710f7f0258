"""Questions that the dashboard asks. Reads only; each method is one short transaction on a connection of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from watcher.store.engine import Store
from watcher.store.migrate import head_revision

Row = dict[str, Any]

_RESULT = """
    SELECT r.*, c.id AS checkpoint_id, u.id AS run_id FROM results r
    LEFT JOIN runs u ON u.name = r.run
    LEFT JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
"""
_STANDING = """
    JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest AND e.current = 1
    WHERE r.superseded = 0
"""
_JOB = """
    SELECT j.id AS job, j.run, j.checkpoint_id, c.path AS checkpoint, c.step, e.name AS eval_set, j.state, j.kind,
           j.reason, j.hint, j.priority, j.charged AS attempts, j.not_before, j.enqueued_at, j.claimed_at,
           j.finished_at, j.launch_id AS launch
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
                      (SELECT max(at) FROM candidates) AS verdict, (SELECT max(finished_at) FROM jobs) AS finished,
                      (SELECT count(*) FROM jobs WHERE state = 'queued') AS queued,
                      (SELECT count(*) FROM jobs WHERE state = 'running') AS running,
                      (SELECT count(*) FROM exports WHERE state = 'pending') AS pending"""
        )
        return ":".join(str(value) for value in row.values())

    def runs(self) -> list[Row]:
        return self._all(
            """SELECT u.id, u.name, u.dir, u.created_at, u.last_scan_at, u.rotates, u.ignored,
                      (SELECT count(*) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS checkpoints,
                      (SELECT max(c.saved_at) FROM checkpoints c WHERE c.run = u.name) AS newest_saved_at,
                      (SELECT max(c.step) FROM checkpoints c WHERE c.run = u.name AND c.superseded = 0) AS newest_step,
                      (SELECT count(*) FROM results r WHERE r.run = u.name) AS results,
                      (SELECT count(*) FROM jobs j WHERE j.run = u.name AND j.state = 'failed') AS failed
               FROM runs u ORDER BY u.id"""
        )

    def eval_sets(self) -> list[Row]:
        return self._all(
            """SELECT e.*, u.id AS run_id,
                      (SELECT count(*) FROM results r
                       WHERE r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest) AS results,
                      (SELECT max(r.tokens) FROM results r
                       WHERE r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest) AS tokens,
                      (SELECT max(r.bytes) FROM results r
                       WHERE r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest) AS bytes,
                      (SELECT avg(r.tokens_per_second) FROM results r
                       WHERE r.run = e.run AND r.eval_set = e.name AND r.eval_digest = e.digest) AS tokens_per_second
               FROM eval_sets e LEFT JOIN runs u ON u.name = e.run ORDER BY e.run, e.current DESC, e.name, e.id"""
        )

    def curve_points(self, runs: tuple[int, ...] = ()) -> list[Row]:
        """Standing results of these runs (all by default) in curve order: newest version of each step."""
        wanted = f"AND u.id IN ({','.join(str(int(run)) for run in runs)})" if runs else ""
        return self._all(
            f"""SELECT * FROM (
                    SELECT r.id, u.id AS run_id, r.run, r.eval_set, r.step, r.tokens_seen, r.saved_at, r.loss, r.ppl,
                           r.bits_per_byte, r.loss_stderr, r.finite, r.logged_val_loss, r.seq_len, r.dtype,
                           row_number() OVER (PARTITION BY r.run, r.eval_set, coalesce(r.step, -r.id)
                                              ORDER BY r.saved_at DESC, r.id DESC) AS version
                    FROM results r JOIN runs u ON u.name = r.run {_STANDING} {wanted}
                ) AS versions WHERE version = 1 ORDER BY run_id, eval_set, step, saved_at"""
        )

    def newest_results(self, limit: int) -> list[Row]:
        return self._all(f"{_RESULT} ORDER BY r.id DESC LIMIT :limit", limit=limit)

    def results(self, run: int | None, eval_set: str | None, after_id: int, limit: int) -> list[Row]:
        """Rows in order of their id, for a client that asks again from the last id it has."""
        where = ["r.id > :after_id"]
        where += ["u.id = :run"] if run is not None else []
        where += ["r.eval_set = :eval_set"] if eval_set is not None else []
        query = f"{_RESULT} WHERE {' AND '.join(where)} ORDER BY r.id LIMIT :limit"
        return self._all(query, after_id=after_id, run=run, eval_set=eval_set, limit=limit)

    def best(self) -> list[Row]:
        return self._all(
            """SELECT b.*, c.id AS checkpoint_id FROM best b
               LEFT JOIN checkpoints c ON c.run = b.run AND c.path = b.checkpoint AND c.digest = b.checkpoint_digest"""
        )

    def latest(self) -> list[Row]:
        return self._all("SELECT * FROM latest")

    def counts(self) -> dict[str, int]:
        rows = self._all("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def oldest_waiting_at(self) -> str | None:
        return self._one("SELECT min(enqueued_at) AS at FROM jobs WHERE state = 'queued'")["at"]

    def checkpoints(self, run: int | None, limit: int, offset: int) -> list[Row]:
        """Newest first, each with how many of its jobs are in which state and its standing losses by set."""
        where = "WHERE u.id = :run" if run is not None else ""
        rows = self._all(
            f"""SELECT c.id, c.run, u.id AS run_id, c.path, c.digest, c.step, c.step_source, c.format, c.family,
                       c.parameters, c.size_bytes, c.saved_at, c.superseded, c.note
                FROM checkpoints c LEFT JOIN runs u ON u.name = c.run {where}
                ORDER BY c.saved_at DESC, c.id DESC LIMIT :limit OFFSET :offset""",
            run=run,
            limit=limit,
            offset=offset,
        )
        if rows:
            ids = ",".join(str(row["id"]) for row in rows)
            cells = self._all(f"{_JOB} WHERE j.checkpoint_id IN ({ids}) ORDER BY e.id")
            losses = self._all(
                f"""SELECT c.id AS checkpoint_id, r.eval_set, r.loss, r.finite FROM results r
                    JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
                    JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest
                     AND e.current = 1 WHERE c.id IN ({ids})"""
            )
            known = {(cell["checkpoint_id"], cell["eval_set"]): cell for cell in losses}
            for row in rows:
                mine = [cell for cell in cells if cell["checkpoint_id"] == row["id"]]
                row["cells"] = [{**cell, **known.get((row["id"], cell["eval_set"]), {})} for cell in mine]
        return rows

    def count_checkpoints(self, run: int | None) -> int:
        where = "JOIN runs u ON u.name = c.run WHERE u.id = :run" if run is not None else ""
        return self._one(f"SELECT count(*) AS n FROM checkpoints c {where}", run=run)["n"]

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
        sets = "SELECT name, digest, spec, current FROM eval_sets WHERE run = :run ORDER BY current DESC, id"
        row["sets"] = self._all(sets, run=row["run"])
        return row

    def running(self) -> list[Row]:
        return self._all(
            f"""SELECT q.*, l.folder, l.device, l.world_size, a.id AS attempt, a.started_at FROM ({_JOB}) AS q
                LEFT JOIN launches l ON l.id = q.launch
                LEFT JOIN attempts a ON a.job_id = q.job AND a.outcome IS NULL
                WHERE q.state = 'running' ORDER BY q.claimed_at, q.job"""
        )

    def queued(self, limit: int) -> list[Row]:
        return self._all(
            f"{_JOB} WHERE j.state = 'queued' ORDER BY j.priority DESC, j.order_key DESC, j.id DESC LIMIT :limit",
            limit=limit,
        )

    def ended_badly(self, limit: int) -> list[Row]:
        """Failed jobs, newest first; each links to its log."""
        return self._all(f"{_JOB} WHERE j.state = 'failed' ORDER BY j.finished_at DESC LIMIT :limit", limit=limit)

    def irregular_files(self, limit: int) -> list[Row]:
        return self._all("SELECT * FROM candidates ORDER BY final DESC, at DESC LIMIT :limit", limit=limit)

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

    def launches(self, limit: int) -> list[Row]:
        return self._all("SELECT * FROM launches ORDER BY started_at DESC LIMIT :limit", limit=limit)

    def events(self, limit: int) -> list[Row]:
        return self._all("SELECT * FROM events ORDER BY id DESC LIMIT :limit", limit=limit)

    def exports(self) -> list[Row]:
        """What every sink has still to get, has got and was given up."""
        return self._all(
            """SELECT sink, state, count(*) AS n, max(done_at) AS last_done_at, max(error) AS error
               FROM exports WHERE kind <> 'from' AND sink <> 'alerts' GROUP BY sink, state ORDER BY sink, state"""
        )

    def facts(self) -> Row:
        """What stands behind: engine, revision, size."""
        path = self.store.path
        return {
            "url": self.store.url.split("@")[-1],
            "engine": self.store.engine.dialect.name,
            "schema": self._one("SELECT version_num AS v FROM alembic_version")["v"],
            "newest_schema": head_revision(),
            "size_bytes": path.stat().st_size if path is not None and path.exists() else None,
        }

    def _all(self, query: str, **values: Any) -> list[Row]:
        with self.store.read() as tx:
            used = {name: value for name, value in values.items() if f":{name}" in query}
            return [dict(row) for row in tx.execute(text(query), used).mappings()]

    def _one(self, query: str, **values: Any) -> Row:
        return self._all(query, **values)[0]
