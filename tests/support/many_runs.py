"""Many runs on many sets, written in bulk: falling losses, a diverged point in some, windows on request."""

from __future__ import annotations

import math
import random
import time
import zlib
from array import array
from pathlib import Path

from sqlalchemy import insert

from tests.support.database import Database
from tests.support.training import Training
from watcher.domain.timestamps import iso
from watcher.state.folder import StateFolder
from watcher.store import schema

SETS = ("fineweb", "wikitext", "code", "math", "books", "arxiv", "reddit", "patents", "news", "dialogue")
WINDOWS = 16


def many_runs(folder: Path, runs: int, sets: int = 2, points: int = 20, *, windows: bool = False) -> Training:
    """A database of `runs` runs on `sets` sets with `points` checkpoints each, and its state folder."""
    folder.mkdir(parents=True, exist_ok=True)
    database, chance = Database(folder / "ckptwatch.db"), random.Random(11)
    with database.store.engine.connect() as connection:  # a sample need not survive a power cut
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
        connection.exec_driver_sql("BEGIN")
    start_s = time.time() - 600.0 * points - 120.0 - runs  # the last one was evaluated a minute ago
    for number in range(runs):
        _one_run(database, f"gpt-{['a', 'b', 'lr', 'wd', 'deep'][number % 5]}-{number:03d}", number, sets, points,
                 start_s, chance, windows)  # fmt: skip
    state = StateFolder.beside(str(database.path))
    state.create()
    return Training(database, state)


def _one_run(database: Database, run: str, number: int, sets: int, points: int, start_s: float,
             chance: random.Random, windows: bool) -> None:  # fmt: skip
    database.run(run, f"/home/ada/out/{run}")
    width = 256 * (1 + number % 4)
    config = (
        f'{{"n_layer": {6 + number % 6}, "n_embd": {width}, "vocab_size": 50304, "lr": {3e-4 * (1 + number % 3):g}}}'
    )
    floor, pace = 3.0 + 0.03 * ((number * 7) % 23), 4 + number % 5
    checkpoints, results = [], []
    database.eval_sets(run, {name: f"sha256:{name}" for name in SETS[:sets]})
    for at in range(1, points + 1):
        step, saved_s = at * 500, start_s + 600.0 * at + number
        saved = {"run": run, "step": step, "saved_at": iso(saved_s)}
        file = {"path": f"step_{step:06d}.pt", "digest": f"sha256:{run}-{step}", "format": "zip", "family": "nanogpt"}
        stat = {"dev": 1, "inode": number * 10_000 + at, "mtime_ns": int(saved_s * 1e9), "ctime_ns": int(saved_s * 1e9)}
        seen = {"registered_at": iso(saved_s + 3), "observed_at": iso(saved_s + 3), "step_source": "payload:step"}
        more = {"parameters": 12 * width * width, "size_bytes": 4_000 * width, "config": config}
        checkpoints.append({**saved, **file, **stat, **seen, **more})
        for place, name in enumerate(SETS[:sets]):
            loss: float | None = floor + 0.35 * place + 4 * math.exp(-at / pace) + chance.gauss(0, 0.01)
            if number % 9 == 4 and place == 0 and at == points // 2:
                loss = None
            results.append(_result(saved, file, name, loss, step, saved_s))
    with database.store.write() as tx:
        tx.execute(insert(schema.checkpoints), checkpoints)
        ids = tx.execute(insert(schema.results).returning(schema.results.c.id), results).scalars().all()
        if windows:
            rows = zip(ids, results, strict=True)
            tx.execute(insert(schema.windows), [_windows(key, row, chance) for key, row in rows if row["loss"]])


def _result(saved: dict, file: dict, name: str, loss: float | None, step: int, saved_s: float) -> dict:
    ppl = None if loss is None else math.exp(loss)
    numbers = {"loss": loss, "ppl": ppl, "bits_per_byte": None if loss is None else loss / math.log(2) / 4.48}
    numbers |= {"loss_stderr": None if loss is None else 0.03, "finite": int(loss is not None), "tokens": 16 * 128}
    made = {"seq_len": 128, "stride": 128, "batch_size": 8, "dtype": "float32", "device": "cpu", "world_size": 1}
    cost = {"load_seconds": 0.5, "eval_seconds": 2.0, "tokens_per_second": 1024.0, "peak_memory_bytes": 1 << 30}
    logged = {"logged_val_loss": None if loss is None else loss + 0.05, "tokens_seen": step * 524_288, "bytes": 9_000}
    versions = {"evalcore_version": "0.1.0", "torch_version": "2.13.0", "attempt": 1, "evaluated_at": iso(saved_s + 60)}
    keys = {"checkpoint": file["path"], "checkpoint_digest": file["digest"], "eval_set": name}
    note = "the loss is nan" if loss is None else None
    return {
        **saved,
        **keys,
        **numbers,
        **made,
        **cost,
        **logged,
        **versions,
        "eval_digest": f"sha256:{name}",
        "note": note,
    }


def _windows(key: int, row: dict, chance: random.Random) -> dict:
    spread = [row["loss"] * 128 * (1.6 if place == 5 else 0.96) for place in range(WINDOWS)]
    total = row["loss"] * 128 * WINDOWS / sum(spread)
    nats = array("d", [value * total for value in spread])
    return {
        "result_id": key,
        "nats": zlib.compress(nats.tobytes()),
        "targets": zlib.compress(array("I", [128] * WINDOWS).tobytes()),
    }
