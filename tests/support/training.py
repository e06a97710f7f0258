"""A database and state folder as a daemon in the middle of two training runs would leave them; and its dashboard."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evalcore.launch_folder import LaunchFolder
from evalcore.messages import to_json
from evalcore.progress import Progress
from tests.support.database import Database
from watcher.domain.timestamps import iso
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.settings.schema import WebSettings
from watcher.state.folder import StateFolder
from watcher.state.lock import Lock

RUNS = {"gpt-124m": (3.27, 1.05), "gpt-124m-lr6e-4": (3.22, 1.3)}
SETS = {"fineweb": 0.0, "wikitext": 0.32}


@dataclass
class Training:
    """What was written, and where."""

    database: Database
    state: StateFolder

    @property
    def url(self) -> str:
        return str(self.database.path)


def training(folder: Path, points: int = 36) -> Training:
    """Two runs on two sets with logged losses, a diverged one, a failure, a queue, and a launch in progress."""
    folder.mkdir(parents=True, exist_ok=True)
    database, chance = Database(folder / "ckptwatch.db"), random.Random(7)
    with database.store.engine.connect() as connection:  # a sample need not survive a power cut
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
        connection.exec_driver_sql("BEGIN")
    state = StateFolder.beside(str(database.path))
    state.create()
    database._clock_s = time.time() - 420 * (points + max(0, points - 8)) - 260
    for run, (floor, scale) in RUNS.items():
        database.run(run, f"/home/ada/out/{run}")
        for name in SETS:
            database.eval_set(run, name, digest=f"sha256:{name}")
        for at in range(1, points + 1 - 8 * (run != "gpt-124m")):
            _one_checkpoint(database, run, at, floor, scale, chance)
    failed = database.checkpoint(18500, "gpt-124m", "gpt_step_018500.pt")
    folder_ = _launch(database, state, failed, "launch-a", "failed")
    folder_.log.write_text(
        "Traceback (most recent call last):\n  ...\nevalcore: record data/17 has CRC 0x9d1f, not 0x11aa\n"
    )
    waiting = [database.checkpoint(step, "gpt-124m", f"gpt_step_{step:06d}.pt") for step in (19000, 19500)]
    running = _launch(database, state, waiting[0], "launch-b", "running")
    attempt = json.loads((running.root / "attempt").read_text())
    said = Progress("evaluating", 361, 1024, "windows", "fineweb", attempt, time.time() - 20, time.time())
    running.progress.write_text(to_json(said))
    database.job(waiting[1], "queued", "gpt-124m", "fineweb")
    database.job(waiting[1], "queued", "gpt-124m", "wikitext")
    return Training(database, state)


def healthy(database: Database) -> Training:
    """The database with a state folder beside it, in which a daemon says that all is well."""
    made = Training(database, StateFolder.beside(str(database.path)))
    made.state.create()
    say_healthy(made.state)
    return made


def say_healthy(folder: StateFolder, **more) -> None:
    run = {
        "name": "gpt-124m",
        "last_scan_age_s": 2.0,
        "scan_seconds": 0.004,
        "matching": 38,
        "settling": 0,
        "overflows": 0,
    }
    said = {
        "pid": os.getpid(),
        "started_at": iso(time.time() - 7200),
        "at": iso(time.time()),
        "state": "ok",
        "reasons": [],
    }
    folder.health.write_text(json.dumps({**said, "runs": [run], "launches": [], **more}))


@contextmanager
def dashboard(made: Training, log: Log | None = None, **settings) -> Iterator[str]:
    """The real server in a thread, a daemon's lock held beside it. Gives the address without its last slash."""
    lock = Lock(made.state.lock)
    lock.take()
    url, stop = start_server(WebSettings(port=0, **settings), made.url, made.state, log or Log(-1))
    try:
        yield url.rstrip("/")
    finally:
        stop()
        lock.release()


def _one_checkpoint(database: Database, run: str, at: int, floor: float, scale: float, chance: random.Random) -> None:
    step = at * 500
    path = f"gpt_step_{step:06d}.pt"
    tokens, base = step * 524_288, floor + scale * 2.4 * math.exp(-at / 5) + 0.5 * scale / (1 + at / 7)
    more = {"config": json.dumps({"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50304, "block_size": 1024})}
    more |= {
        "parameters": 124_475_904,
        "size_bytes": 1_493_000_000,
        "tokens_seen": tokens,
        "logged_val_loss": base + 0.02,
    }
    number = database.checkpoint(step, run, path, digest=f"sha256:{run}-{step}", **more)
    database._clock_s += 360
    for name, offset in SETS.items():
        loss = base + offset + chance.gauss(0, 0.006)
        broken = run != "gpt-124m" and at == 17 and name == "wikitext"
        database.job(number, "succeeded", run, name)
        shown = {
            "logged_val_loss": base + chance.gauss(0.015, 0.012) if name == "fineweb" else None,
            "tokens_seen": tokens,
        }
        shown |= {"checkpoint": path, "tokens": 1_048_576, "bytes": 4_700_000, "seq_len": 1024, "stride": 1024}
        shown |= {"bits_per_byte": None if broken else loss / math.log(2) / 4.48, "tokens_per_second": 41_200.0}
        shown |= {"loss_stderr": None if broken else 0.028, "note": "the loss is nan" if broken else None}
        database.result(step, None if broken else loss, run, name, **shown)
        database._clock_s -= 60


def _launch(database: Database, state: StateFolder, checkpoint: int, name: str, job_state: str) -> LaunchFolder:
    folder = LaunchFolder(state.launches / name)
    folder.create()
    job = database.job(checkpoint, job_state, "gpt-124m", "fineweb")
    attempt = database.launch(job, folder.root, name, open_=job_state == "running")
    (folder.root / "attempt").write_text(json.dumps(attempt))
    return folder
