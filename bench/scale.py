"""A database with a million results and 100,000 queued jobs: claim, curve, best, dashboard pages; a folder's scan."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from bench.processes import machine
from evalcore.messages import EvalSetSpec, to_json
from watcher.detect.events import FolderWatch
from watcher.domain.checkpoint import NamePattern
from watcher.domain.timestamps import iso
from watcher.store import schema
from watcher.store.engine import Store
from watcher.store.migrate import open_for_writing
from watcher.store.read.dashboard import Pages
from watcher.store.read.listing import ListingQuery, rows_of
from watcher.store.read.panels import Panels
from watcher.store.write import eval_sets, queue, round_robin
from watcher.store.write.launches import update_launch
from watcher.store.write.runs import adopt_run

T0_S = 1_760_000_000.0
SETS = ("fineweb", "wikitext", "code", "math", "books")
BATCH = 20_000
BUSY = 10  # runs that the queued jobs belong to


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=100, help="runs that the results belong to")
    parser.add_argument("--files", type=int, default=100_000, help="files in the folder that is scanned")
    parser.add_argument("--url", help="an empty database to fill instead of a new SQLite file")
    parser.add_argument("--repeat", type=int, default=20)


def run(options: argparse.Namespace) -> None:
    print(f"# scale: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        url = options.url or f"{name}/scale.db"
        store = open_for_writing(url)
        begun = time.perf_counter()
        steps = fill(store, options.results, options.queued, options.runs)
        size = f"{Path(url).stat().st_size / 1e6:.0f} MB, " if options.url is None else ""
        print(f"filled with {options.results:,} results and {options.queued:,} queued jobs in "
              f"{time.perf_counter() - begun:.0f} s; {size}{steps:,} steps on each curve")  # fmt: skip
        measure_queue(store, options.repeat)
        measure_readers(store, options.repeat)
        store.close()
        measure_scan(Path(name) / "checkpoints", options.files)


def fill(store: Store, results: int, queued: int, runs: int) -> int:
    """Runs of equal length on five sets each; ten of them share the queued jobs. Returns steps per curve."""
    steps = max(1, results // (runs * len(SETS)))
    digests = {}
    for number in range(runs):
        run = f"run-{number:03d}"
        adopt_run(store, run, f"/out/{run}", iso(T0_S))
        specs = [EvalSetSpec(name=name, paths=(f"/data/{name}",), data_digest=f"sha256:{name}") for name in SETS]
        for spec, row in zip(
            specs, eval_sets.adopt_eval_sets(store, run, [(s, s.digest()) for s in specs], iso(T0_S)), strict=True
        ):
            assert to_json(spec)
            digests[run, row.name] = row.digest
    for number in range(runs):
        run = f"run-{number:03d}"
        with store.write() as tx:
            for start in range(0, steps, BATCH):
                span = range(start, min(start + BATCH, steps))
                tx.execute(
                    insert(schema.results), [_result(run, step, name, digests) for step in span for name in SETS]
                )
    busy = [f"run-{number:03d}" for number in range(max(0, runs - BUSY), runs)]
    with store.write() as tx:
        found = tx.execute(text("SELECT run, name, id FROM eval_sets")).all()
        ids = {(row.run, row.name): row.id for row in found}
        for start in range(0, queued // len(SETS), BATCH):
            span = [(busy[k % len(busy)], k) for k in range(start, min(start + BATCH, queued // len(SETS)))]
            tx.execute(insert(schema.checkpoints), [_checkpoint(run, steps + 1 + k, k + 1) for run, k in span])
            rows = [_job(run, k + 1, ids[run, name], steps + 1 + k) for run, k in span for name in SETS]
            tx.execute(insert(schema.jobs), rows)
    os.sync()  # what is measured next shall not wait for the filling to reach the disk
    return steps


def measure_queue(store: Store, repeat: int) -> None:
    """A claim is one transaction: five jobs of a checkpoint, their attempts, and the launch's row."""
    runs = [row["name"] for row in Pages(store).runs()[-BUSY:]]  # what one daemon watches
    launches = [f"launch-{number}" for number in range(repeat)]

    def claim(launch: str, run: str) -> None:
        row = {"id": launch, "owner": "o", "instance_id": "h", "executor": "local", "folder": "/f", "device": "cpu"}
        row |= {"world_size": 1, "started_at": iso(T0_S)}
        assert queue.claim_next(store, {run: "newest"}, launch, iso(time.time()), opens=row) is not None

    each = zip(launches, runs * repeat, strict=False)
    show("claim", lambda: claim(*next(each)), repeat)
    again = iter(launches)
    show("  of which a commit of one changed row", lambda: update_launch(store, next(again), pid=1), repeat)
    show("which of ten runs have work", lambda: round_robin.runs_waiting(store, runs, iso(time.time())), repeat)
    show("next_due", lambda: queue.next_due(store, runs), repeat)
    show("waiting steps (order = fill)", lambda: round_robin.waiting_steps(store, runs[-1], iso(time.time())), 3)


def measure_readers(store: Store, repeat: int) -> None:
    """What people and the dashboard ask."""
    where = "WHERE run = 'run-007' AND eval_set = 'code'"
    pages = Pages(store)
    show("view curve, one run and set", lambda: ask(store, f"SELECT * FROM curve {where} ORDER BY step"), repeat)
    show("view best, one run and set", lambda: ask(store, f"SELECT * FROM best {where}"), repeat)
    show("view latest, one run and set", lambda: ask(store, f"SELECT * FROM latest {where}"), repeat)
    show("SELECT step, loss, ppl of one run", lambda: ask(
        store, "SELECT step, loss, ppl FROM results WHERE run = 'run-007' ORDER BY step"), repeat)  # fmt: skip
    show("dashboard: newest and lowest of every curve", Panels(store).cells, 3)
    queued = partial(rows_of, store, "queued", ListingQuery())
    show("dashboard: queue page", lambda: (queued(), pages.counts(), pages.running()), 5)


def measure_scan(folder: Path, files: int) -> None:
    folder.mkdir()
    for number in range(files):
        (folder / f"step_{number:07d}.pt").touch()
    watch = FolderWatch(str(folder), NamePattern(("*.pt",), ()), 10.0, threading.Event())
    watch.scan()
    begun = time.process_time()
    report = watch.scan()
    took_ms = (time.process_time() - begun) * 1e3
    print(f"{f'scan of {files:,} files':40} {took_ms:9.1f} ms of CPU; {report.matching:,} match")


def ask(store: Store, query: str) -> list[Any]:
    with store.read() as tx:
        return list(tx.execute(text(query)).all())


def show(name: str, act: Callable[[], Any], repeat: int) -> None:
    took = sorted(_timed(act, repeat))
    print(f"{name:40} {statistics.median(took):9.2f} ms median, {took[-1]:9.2f} ms at most, of {repeat}")


def _timed(act: Callable[[], Any], repeat: int) -> Iterator[float]:
    for _ in range(repeat):
        begun = time.perf_counter()
        act()
        yield (time.perf_counter() - begun) * 1e3


def _result(run: str, step: int, name: str, digests: dict[tuple[str, str], str]) -> dict[str, Any]:
    loss = 2.5 + 4.0 / (1 + step) ** 0.3
    return {
        "run": run, "checkpoint": f"step_{step}.pt", "step": step, "eval_set": name, "loss": loss, "ppl": 2.718**loss,
        "bits_per_byte": 1.0, "loss_stderr": 0.01, "finite": 1, "tokens": 1_000_000, "bytes": 4_000_000,
        "seq_len": 1024, "stride": 1024, "batch_size": 8, "dtype": "bfloat16", "device": "cuda", "world_size": 1,
        "load_seconds": 1.0, "eval_seconds": 9.0, "tokens_per_second": 1e5, "peak_memory_bytes": 1 << 32,
        "checkpoint_digest": f"sha256:{run}-{step:060d}", "eval_digest": digests[run, name], "evalcore_version": "0.1",
        "torch_version": "2.13.0", "attempt": 1, "saved_at": iso(T0_S + step * 600),
        "evaluated_at": iso(T0_S + step * 600 + 30),
    }  # fmt: skip


def _checkpoint(run: str, step: int, number: int) -> dict[str, Any]:
    stamp = int((T0_S + step * 600) * 1e9)
    return {
        "id": number, "run": run, "path": f"step_{step}.pt", "digest": f"sha256:{run}-{step:060d}", "format": "zip",
        "size_bytes": 10**9, "dev": 1, "inode": number, "mtime_ns": stamp, "ctime_ns": stamp, "step": step,
        "step_source": "payload:step", "saved_at": iso(stamp / 1e9), "registered_at": iso(stamp / 1e9),
        "observed_at": iso(stamp / 1e9),
    }  # fmt: skip


def _job(run: str, checkpoint: int, eval_set: int, step: int) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint, "eval_set_id": eval_set, "run": run, "state": "queued",
        "order_key": int((T0_S + step * 600) * 1e9), "enqueued_at": iso(T0_S + step * 600),
    }  # fmt: skip
