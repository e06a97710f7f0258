"""A real, migrated database filled through the schema: runs, checkpoints, eval sets, jobs, results, windows."""

from __future__ import annotations

import os
import weakref
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from evalcore.messages import EvalSetSpec, to_json
from watcher.domain.timestamps import iso
from watcher.store import schema
from watcher.store.migrate import open_for_writing

SAVED_S = 1_760_000_000.0


class Database:
    """Writes rows as the daemon would leave them. Every method returns the new row's id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = open_for_writing(os.fspath(path))
        weakref.finalize(self, self.store.close)  # for tests that leave it to the end of the test
        self._sets: dict[tuple[str, str], tuple[int, str]] = {}
        self._clock_s = SAVED_S

    def close(self) -> None:
        self.store.close()

    def run(self, name: str = "gpt", folder: Path | str = "/training/gpt") -> str:
        self._insert(schema.runs, name=name, dir=os.fspath(folder), created_at=iso(SAVED_S))
        return name

    def eval_set(self, run: str = "gpt", name: str = "val", digest: str = "sha256:11", current: int = 1) -> int:
        return self.eval_sets(run, {name: digest}, current)[0]

    def eval_sets(self, run: str, digests: dict[str, str], current: int = 1) -> list[int]:
        """digests: by name. Their ids."""
        rows = []
        for name, digest in digests.items():
            spec = to_json(EvalSetSpec(name=name, paths=(f"/data/{name}.npy",), seq_len=64))
            made = {"run": run, "name": name, "digest": digest, "spec": spec, "current": current}
            rows.append({**made, "created_at": iso(SAVED_S)})
        with self.store.write() as tx:
            added = schema.eval_sets.insert().returning(schema.eval_sets.c.id, sort_by_parameter_order=True)
            ids = list(tx.execute(added, rows).scalars())
        self._sets |= {(run, name): (key, digests[name]) for name, key in zip(digests, ids, strict=True)}
        return ids

    def checkpoint(self, step: int | None, run: str = "gpt", path: str | None = None, **more: Any) -> int:
        self._clock_s += 60
        values: dict[str, Any] = {
            "run": run,
            "path": path or f"step_{step}.pt",
            "digest": f"sha256:{run}-{path or step}",
            "format": "zip",
            "family": "rosellm",
            "parameters": 1_000,
            "size_bytes": 4_000,
            "dev": 1,
            "inode": int(self._clock_s),
            "mtime_ns": int(self._clock_s * 1e9),
            "ctime_ns": int(self._clock_s * 1e9),
            "step": step,
            "step_source": "payload:step" if step is not None else "",
            "saved_at": iso(self._clock_s),
            "registered_at": iso(self._clock_s + 3),
            "observed_at": iso(self._clock_s + 3),
        }
        return self._insert(schema.checkpoints, **{**values, **more})

    def job(self, checkpoint: int, state: str, run: str = "gpt", eval_set: str = "val", **more: Any) -> int:
        values: dict[str, Any] = {
            "checkpoint_id": checkpoint,
            "eval_set_id": self._sets[(run, eval_set)][0],
            "run": run,
            "state": state,
            "order_key": int(self._clock_s),
            "enqueued_at": iso(self._clock_s + 3),
        }
        if state == "running":
            values |= {"token": f"token-{checkpoint}-{eval_set}", "claimed_at": iso(self._clock_s + 4)}
        if state in ("succeeded", "failed", "cancelled"):
            values |= {"finished_at": iso(self._clock_s + 9), "charged": 1}
        if state == "failed":
            values |= {"kind": "corrupt", "reason": "a record's CRC is wrong"}
        if state == "cancelled":
            values |= {"kind": "by_user"}
        return self._insert(schema.jobs, **{**values, **more})

    def launch(self, job: int, folder: Path, name: str = "launch-1", *, open_: bool = True) -> int:
        """A launch with one attempt of the job; returns the attempt's id."""
        at = iso(self._clock_s + 4)
        values = {"id": name, "owner": "host:boot:1", "executor": "local", "device": "cpu", "world_size": 1}
        with self.store.write() as tx:
            tx.execute(insert(schema.launches).values(folder=os.fspath(folder), started_at=at, **values))
            tx.execute(schema.jobs.update().where(schema.jobs.c.id == job).values(launch_id=name))
        ended = {} if open_ else {"finished_at": iso(self._clock_s + 8), "outcome": "succeeded"}
        return self._insert(
            schema.attempts, job_id=job, launch_id=name, token=f"{name}-{job}", claimed_at=at, started_at=at, **ended
        )

    def result(
        self, step: int | None, loss: float | None, run: str = "gpt", eval_set: str = "val",
        windows: Sequence[float] = (), targets: Sequence[int] = (), **more: Any,
    ) -> int:  # fmt: skip
        """A row of `results`. windows: nats of each, targets: counts of each; loss is taken from them where None."""
        self._clock_s += 60
        if windows and loss is None:
            loss = sum(windows) / sum(targets)
        values: dict[str, Any] = {
            "run": run,
            "checkpoint": f"step_{step}.pt",
            "step": step,
            "eval_set": eval_set,
            "loss": loss,
            "ppl": None if loss is None or loss > 700 else 2.718281828459045**loss,
            "loss_stderr": 0.01,
            "finite": int(loss is not None),
            "tokens": sum(targets) or 1_000,
            "seq_len": 64,
            "stride": 64,
            "batch_size": 8,
            "dtype": "float32",
            "device": "cpu",
            "world_size": 1,
            "load_seconds": 0.5,
            "eval_seconds": 2.0,
            "tokens_per_second": 500.0,
            "peak_memory_bytes": 1 << 20,
            "checkpoint_digest": f"sha256:{run}-{step}",
            "eval_digest": self._sets.get((run, eval_set), (0, "sha256:11"))[1],
            "evalcore_version": "0.1.0",
            "torch_version": "2.13.0",
            "attempt": 1,
            "saved_at": iso(self._clock_s),
            "evaluated_at": iso(self._clock_s + 9),
        }
        number = self._insert(schema.results, **{**values, **more})
        if windows:
            packed = zlib.compress(array("d", windows).tobytes()), zlib.compress(array("I", targets).tobytes())
            with self.store.write() as tx:
                tx.execute(insert(schema.windows).values(result_id=number, nats=packed[0], targets=packed[1]))
        return number

    def _insert(self, table: Any, **values: Any) -> int:
        with self.store.write() as tx:
            return tx.execute(insert(table).values(**values).returning(table.c.id)).scalar_one()


def small_run(path: Path) -> Database:
    """One run, one set, three results whose losses fall: 3.0, 2.5, 2.2 at steps 100, 200, 300."""
    database = Database(path)
    database.run()
    database.eval_set()
    for step, loss in ((100, 3.0), (200, 2.5), (300, 2.2)):
        database.job(database.checkpoint(step), "succeeded")
        database.result(step, loss)
    return database
