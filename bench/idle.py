"""The daemon's memory and share of a core when nothing happens, beside 100,000 known `.pt`.

A real daemon process over a database that knows every file; resident memory, and CPU time as a share of one core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from pathlib import Path

from sqlalchemy import insert

from bench.processes import machine
from evalcore.messages import ModelSpec
from tests.support.daemon import Site, wait_until
from watcher.detect.observation import fingerprint
from watcher.domain.timestamps import iso
from watcher.pipeline.registration import settings_digest
from watcher.store import schema
from watcher.store.migrate import open_for_writing
from watcher.store.write import runs


def fill(site: Site, files: int) -> None:
    """The files, and a database in which each is registered and needs nothing more."""
    store = open_for_writing(str(site.database))
    now = iso(0.0)
    runs.adopt_run(store, "run", str(site.folder), now)
    rows = []
    for number in range(files):
        path = site.folder / f"step_{number:07d}.pt"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        stat = fingerprint(os.stat(path))._asdict()
        told = {"run": "run", "path": path.name, "digest": f"sha256:{number:064x}", "format": "zip", "step": number}
        times = dict.fromkeys(("saved_at", "registered_at", "observed_at"), now)
        rows.append({**told, **stat, **times, "step_source": "name", "model_settings": settings_digest(ModelSpec())})
    with store.write() as tx:
        tx.execute(insert(schema.checkpoints), rows)
        values = {"name": "val", "run": "run", "digest": "sha256:0", "spec": "{}", "current": 0, "created_at": now}
        old = tx.execute(insert(schema.eval_sets).values(values).returning(schema.eval_sets.c.id)).scalar_one()
        over = {"state": "cancelled", "kind": "skipped", "finished_at": now, "enqueued_at": now, "run": "run"}
        ids = range(1, files + 1)
        tx.execute(insert(schema.jobs), [{"checkpoint_id": i, "eval_set_id": old, "order_key": i, **over} for i in ids])
    store.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)


def run(options: argparse.Namespace) -> None:
    files, seconds = options.files, options.seconds
    print(f"# idle: {machine()}")
    with tempfile.TemporaryDirectory(prefix="idle", ignore_cleanup_errors=True) as folder:
        site = Site(Path(folder), scan_s=10.0)
        fill(site, files)
        try:
            daemon = site.start()
            wait_until(lambda: (site.health().get("runs") or [{}])[0].get("matching") == files, within_s=60)
            print(f"boot to the first scan: {cpu_s(daemon.pid):.2f} s CPU")
            threading.Event().wait(5)
            before = cpu_s(daemon.pid)
            threading.Event().wait(seconds)
            used = cpu_s(daemon.pid) - before
            print(f"idle beside {files} files: {rss_bytes(daemon.pid) / 1e6:.1f} MB resident", end="; ")
            print(f"{100 * used / seconds:.3f} % of a core over {seconds:.0f} s")
            assert site.jobs() == [] or all(job[1] == "cancelled" for job in site.jobs())
            site.stop(daemon)
        finally:
            site.end()
