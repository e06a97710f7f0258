"""Launches, and the leases on them where several daemons share a database server: expired ones are reclaimed.

A lease is counted by the server's clock, so hosts need not agree on the time. On SQLite there are none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, literal_column, select, update

from watcher.store.engine import Store
from watcher.store.schema import launches

LEASE_S = 60.0


def server_time(plus_s: float = 0.0) -> ColumnElement[str]:
    """PostgreSQL's clock as the database keeps times (watcher.domain.timestamps.iso). plus_s: seconds from now."""
    moment = f"(clock_timestamp() + make_interval(secs => {float(plus_s)})) AT TIME ZONE 'UTC'"
    return literal_column(f'to_char({moment}, \'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"\')')


def first_lease(store: Store) -> dict[str, Any]:
    """The lease of a launch that begins."""
    return {"lease_expires_at": server_time(LEASE_S)} if store.shared else {}


def renew(store: Store, launch_ids: Collection[str]) -> set[str]:
    """Prolong these; returns the ones that are still open. One that is not has been taken from us."""
    with store.write() as tx:
        still_open = (launches.c.id.in_(list(launch_ids)), launches.c.finished_at.is_(None))
        prolonged = update(launches).where(*still_open).values(lease_expires_at=server_time(LEASE_S))
        return set(tx.execute(prolonged.returning(launches.c.id)).scalars())


def close_lapsed(store: Store, instance_id: str, now: str) -> list[str]:
    """End other instances' launches whose lease has run out; returns their owners."""
    with store.write() as tx:
        silent = launches.c.lease_expires_at < server_time()
        lapsed = (launches.c.finished_at.is_(None), launches.c.instance_id != instance_id, silent)
        over = {"finished_at": now, "reason": "the lease of its daemon expired"}
        return list(tx.execute(update(launches).where(*lapsed).values(over).returning(launches.c.owner)).scalars())


def update_launch(store: Store, launch_id: str, **values: Any) -> None:
    with store.write() as tx:
        tx.execute(update(launches).where(launches.c.id == launch_id).values(values))


def open_launches(store: Store, instance_id: str = "") -> list[Any]:
    """Launches that have not ended; on a server only those of this instance (the id of a daemon's state folder)."""
    own = (launches.c.instance_id == instance_id,) if store.shared else ()
    with store.read() as tx:
        return list(tx.execute(select(launches).where(launches.c.finished_at.is_(None), *own)).all())
