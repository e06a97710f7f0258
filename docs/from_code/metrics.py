"""Prometheus metrics: what /metrics gives for a small database that has one of everything."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sqlalchemy import update

from docs.from_code.markdown import code, generated, table
from tests.support.database import SAVED_S, Database
from watcher.domain.timestamps import iso
from watcher.report.prometheus import Family
from watcher.state.folder import StateFolder
from watcher.store import schema
from watcher.store.read.behind import Behind
from watcher.store.read.dashboard import Pages
from watcher.store.read.panels import Panels
from watcher.store.read.run_pages import RunPages
from watcher.store.read.samples import SamplePages
from watcher.web import metrics
from watcher.web.source import Source

_ABOUT = """
`/metrics` of the dashboard (`ckptwatch serve`, or `[web] enabled = true` in the daemon), in Prometheus' text format. A
metric without a value is omitted; a loss that is not finite is absent, and `ckptwatch_eval_finite` is 0.
"""


def page() -> str:
    """One row for each family."""
    rows = []
    for family in families():
        labels = ", ".join(code(name) for name in (family.samples[0][0] if family.samples else ()))
        rows.append([code(family.name), family.kind, labels, family.help])
    return (
        generated("Metrics", "watcher/web/metrics.py", _ABOUT)
        + "\n"
        + table(["name", "type", "labels", "meaning"], rows)
    )


def families() -> list[Family]:
    """Every family with a sample, so that its labels are seen."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "one.db")
        database.run()
        database.eval_set()
        database.job(database.checkpoint(1), "queued")
        database.result(1, 2.0, bits_per_byte=1.0)
        database.eval_set(name="core/piqa", digest="sha256:piqa")
        with database.store.write() as tx:
            task = schema.eval_sets.c.name == "core/piqa"
            tx.execute(update(schema.eval_sets).where(task).values(kind="task", suite="core"))
        scores = {"accuracy": 0.6, "accuracy_norm": 0.6, "random_baseline": 0.5}
        database.result(1, 2.0, eval_set="core/piqa", task="piqa", **scores)
        database._insert(
            schema.exports, sink="jsonl", kind="result", subject_id=1, state="done", enqueued_at=iso(SAVED_S)
        )
        state = StateFolder.beside(str(database.path))
        state.create()
        run = {"name": "gpt", "last_scan_age_s": 1.0, "overflows": 0}
        state.health.write_text(json.dumps({"state": "ok", "reasons": [], "at": iso(SAVED_S), "pid": 1, "runs": [run]}))
        store = database.store
        source = Source(
            Pages(store),
            Panels(store),
            lambda key, wanted: ([], 0),
            state,
            lambda path: "",
            RunPages(store),
            Behind(store),
            SamplePages(store),
        )
        try:
            return metrics.families(source, SAVED_S + 60)
        finally:
            database.close()
