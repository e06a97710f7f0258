"""Verbs on `candidates`: paths that match but cannot be registered, each with the newest reason."""

from __future__ import annotations

from importlib import import_module

from sqlalchemy import or_, select

from watcher.domain.checkpoint import Fingerprint
from watcher.store.engine import Store
from watcher.store.schema import candidates


def reject(
    store: Store,
    run: str,
    path: str,
    kind: str,
    reason: str,
    final: bool,
    at: Fingerprint | None,
    now: str,
    hint: str = "",
) -> None:
    """Keep why a path cannot be registered, and what to do about it; the newest reason stands."""
    values = {
        "run": run,
        "path": path,
        "kind": kind,
        "reason": reason,
        "hint": hint or None,
        "final": int(final),
        "at": now,
        "size_bytes": at.size_bytes if at else None,
        "mtime_ns": at.mtime_ns if at else None,
        "ctime_ns": at.ctime_ns if at else None,
    }
    with store.write() as tx:
        dialect = import_module(f"sqlalchemy.dialects.{tx.dialect.name}")  # loaded already; the other one takes 2 MB
        upsert = dialect.insert(candidates).values(values)
        tx.execute(upsert.on_conflict_do_update(index_elements=["run", "path"], set_=values))


def rejected(store: Store, run: str) -> dict[str, tuple[str, str, bool]]:
    """path -> (kind, reason, final): the same again is not news."""
    c = candidates.c
    with store.read() as tx:
        rows = tx.execute(select(c.path, c.kind, c.reason, c.final).where(c.run == run))
        return {row.path: (row.kind, row.reason, bool(row.final)) for row in rows}


def rejected_by_name(store: Store, run: str) -> list[str]:
    """Paths whose rejection is not about a content: irregular ones, and those still waited for."""
    by_name = or_(candidates.c.size_bytes.is_(None), candidates.c.final == 0)
    with store.read() as tx:
        return list(tx.execute(select(candidates.c.path).where(candidates.c.run == run, by_name)).scalars())


def withdraw(store: Store, run: str, path: str) -> None:
    """The path is gone, or was registered after all."""
    with store.write() as tx:
        tx.execute(candidates.delete().where(candidates.c.run == run, candidates.c.path == path))
