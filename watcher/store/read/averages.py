"""Questions about means of checkpoints."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import select

from watcher.store.engine import Store
from watcher.store.schema import average_members, averages


def waiting_averages(store: Store) -> list[dict[str, Any]]:
    """run, spec, reason of the means that lack members."""
    a = averages.c
    query = select(a.run, a.spec, a.reason).where(a.state == "waiting", a.reason.is_not(None)).order_by(a.run, a.spec)
    with store.read() as tx:
        return [dict(row) for row in tx.execute(query).mappings()]


def members_of_means(store: Store) -> dict[tuple[str, str, str], list[int]]:
    """(run, path, digest) of each mean, as its results say them -> ids of its members."""
    a, m = averages.c, average_members.c
    query = select(a.run, a.path, a.digest, m.checkpoint_id).join_from(averages, average_members)
    members: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    with store.read() as tx:
        for run, path, digest, checkpoint_id in tx.execute(query):
            members[(run, path, digest)].append(checkpoint_id)
    return dict(members)
