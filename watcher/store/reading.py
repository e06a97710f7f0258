"""How a connection that may only read begins: it looks again where SQLite would have to undo something first."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection

#: SQLite found what a process that was killed in the middle of a commit leaves behind, and may not undo it.
LEFT_BEHIND = frozenset({"SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTLOCK"})
LOOKS = 10
BETWEEN_LOOKS_S = 0.02


def sqlite_uri(path: Path, mode: str) -> str:
    """mode: `ro` or `rw`, as SQLite's own; neither creates the file."""
    return f"file:{quote(os.fspath(path.absolute()))}?mode={mode}"


def begin_reading(path: Path, connection: Connection) -> None:
    """Begin a transaction and take its read lock at once.

    A reader that comes while another process begins a commit can see the new journal before the lock that belongs to
    it, and takes it for one that was left behind. A moment later that has passed. A journal that was left behind
    indeed is undone by a connection of its own, as any writer would; where that is not permitted, SQLite's error
    stands.
    """
    connection.exec_driver_sql("BEGIN")
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    for look in range(LOOKS):
        try:
            driver.execute("PRAGMA schema_version").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in LEFT_BEHIND:
                break
        if look == LOOKS - 2:
            _undo(path)
        threading.Event().wait(BETWEEN_LOOKS_S)
    connection.exec_driver_sql("PRAGMA schema_version")  # fails again, in SQLAlchemy's terms


def _undo(path: Path) -> None:
    """Roll back a transaction whose process is dead: SQLite does it when a connection that may write reads."""
    try:
        writer = sqlite3.connect(sqlite_uri(path, "rw"), uri=True)
    except sqlite3.Error:
        return
    try:
        writer.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error:
        return
    finally:
        writer.close()
