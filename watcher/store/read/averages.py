"""Questions about means of checkpoints."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from watcher.store.engine import Store
from watcher.store.schema import averages


def waiting_averages(store: Store) -> list[dict[str, Any]]:
    """run, spec, reason of the means that lack members."""
    a = averages.c
    query = select(a.run, a.spec, a.reason).where(a.state == "waiting", a.reason.is_not(None)).order_by(a.run, a.spec)
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]
