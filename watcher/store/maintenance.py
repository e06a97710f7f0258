"""Checks a database without changing it: its owner, its schema, every page and every reference."""

from __future__ import annotations

import sqlite3

from watcher.errors import NothingFound
from watcher.store.engine import journal_mode, open_store, sqlite_path
from watcher.store.migrate import head_revision, refuse_unless_ours, revision_of
from watcher.store.reading import sqlite_uri
from watcher.store.schema import metadata
from watcher.store.views import VIEWS


def check(url: str) -> dict[str, str | int | None]:
    """Facts about a sound database. Raises NothingFound, or StoreRefused where it is foreign, newer or damaged."""
    path = sqlite_path(url)
    if path is None:
        return _schema_of(url)
    if not path.exists():
        raise NothingFound(f"there is no database at {path}", hint="ckptwatch db path says where it is looked for")
    refuse_unless_ours(path)
    connection = sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=5)
    try:
        pages = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
        dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.DatabaseError as error:
        pages, dangling, mode = [str(error)], [], "unknown"
    finally:
        connection.close()
    if mode == "delete":  # what every new connection says without WAL; the daemon chooses its mode
        mode = journal_mode(path).lower()
    facts = {"database": str(path), "journal_mode": mode, "bytes": path.stat().st_size}
    facts["integrity"] = "ok" if pages == ["ok"] else "; ".join(pages)
    facts["references"] = "ok" if not dangling else f"{len(dangling)} rows refer to rows that are gone"
    if facts["integrity"] == "ok":
        facts |= _schema_of(url)
    return facts


def is_sound(facts: dict[str, str | int | None]) -> bool:
    """Whole, and of this version's schema."""
    good = all(facts.get(key, "ok") == "ok" for key in ("integrity", "references", "tables"))
    return good and facts.get("schema") == facts.get("newest_schema")


def _schema_of(url: str) -> dict[str, str | int | None]:
    from sqlalchemy import inspect

    store = open_store(url, readonly=True)
    try:
        with store.read() as tx:
            revision = revision_of(tx)
            inspector = inspect(tx)
            present = set(inspector.get_table_names()) | set(inspector.get_view_names())
    finally:
        store.close()
    missing = sorted((set(metadata.tables) | set(VIEWS)) - present)
    tables = "ok" if not missing else f"missing: {', '.join(missing)}"
    return {"schema": revision, "newest_schema": head_revision(), "tables": tables}
