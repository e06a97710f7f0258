"""Leases on launches, where several daemons share a database server: who falls silent loses what it holds.

A lease is counted by the server's clock, so hosts need not agree on the time. On SQLite there are none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, literal_column, update

from watcher.store.engine import Store
from watcher.store.schema import launches

LEASE_S = 60.0


def server_time(plus_s: float = 0.0) -> ColumnElement[str]:
    """PostgreSQL's clock as the database keeps times (watcher.domain.timestamps.iso). plus_s: seconds from now."""
    moment = f"(clock_timestamp() + make_interval(secs => {float(plus_s)})) AT TIME ZONE 'UTC'"
    return literal_column(f'to_char({moment}, \'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"\')')


def first(store: Store) -> dict[str, Any]:
    """The lease of a launch that begins."""
    return {"lease_expires_at": server_time(LEASE_S)} if store.shared else {}


def renew(store: Store, launch_ids: Collection[str]) -> set[str]:
    """Prolong these; returns the ones that are still open. One that is not has been taken from us."""
    with store.write() as tx:
        mine = (launches.c.id.in_(list(launch_ids)), launches.c.finished_at.is_(None))
        prolonged = update(launches).where(*mine).values(lease_expires_at=server_time(LEASE_S))
        return set(tx.execute(prolonged.returning(launches.c.id)).scalars())


def close_lapsed(store: Store, home: str, now: str) -> list[str]:
    """End other homes' launches whose lease has run out; returns their owners."""
    with store.write() as tx:
        silent = launches.c.lease_expires_at < server_time()
        lapsed = (launches.c.finished_at.is_(None), launches.c.home != home, silent)
        over = {"finished_at": now, "reason": "its daemon had fallen silent"}
        return list(tx.execute(update(launches).where(*lapsed).values(over).returning(launches.c.owner)).scalars())
