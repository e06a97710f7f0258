"""Verbs on watched runs: adopt one, and what a scan of its folder changes. Never looks at the folder itself."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import func, insert, select, update

from watcher.store.engine import Store
from watcher.store.schema import checkpoints, runs


def run_lock(run: str) -> str:
    """Daemons that share a run register, copy and record in it one after the other."""
    return f"run {run}"


def folder_of(store: Store, name: str) -> str | None:
    """The folder that a run of this name was watched in last; None where the run is not known."""
    with store.read() as tx:
        return tx.execute(select(runs.c.dir).where(runs.c.name == name)).scalar()


def adopt_run(store: Store, name: str, folder: str, now: str) -> bool:
    """Make the run known in this folder. True when it is new, which is when `backfill` counts."""
    with store.write(alone=run_lock(name)) as tx:
        known = tx.execute(select(runs.c.id).where(runs.c.name == name)).first()
        if known is None:
            tx.execute(insert(runs).values(name=name, dir=folder, created_at=now))
        else:
            tx.execute(update(runs).where(runs.c.name == name).values(dir=folder))
        return known is None


def scanned(store: Store, run: str, now: str, ignored: Counter[str]) -> None:
    with store.write() as tx:
        tx.execute(update(runs).where(runs.c.name == run).values(last_scan_at=now, ignored=json.dumps(ignored)))


def last_look_at(store: Store, run: str) -> str:
    """Until when the folder's state is known: its last scan, or the last version observed; "" for a new run."""
    newest = select(func.max(checkpoints.c.observed_at)).where(checkpoints.c.run == run)
    with store.read() as tx:
        scan = tx.execute(select(runs.c.last_scan_at).where(runs.c.name == run)).scalar()
        return max(scan or "", tx.execute(newest).scalar() or "")


def mark_rotating(store: Store, run: str) -> None:
    with store.write() as tx:
        tx.execute(update(runs).where(runs.c.name == run).values(rotates=1))


def rotates(store: Store, run: str) -> bool:
    with store.read() as tx:
        return bool(tx.execute(select(runs.c.rotates).where(runs.c.name == run)).scalar())
