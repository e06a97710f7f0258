"""Consistent copies of an SQLite database while it is in use. Never overwrites, never touches the original."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from watcher.errors import EnvironmentProblem
from watcher.store.reading import sqlite_uri


def back_up_to(path: Path, copy: Path) -> None:
    """Copy the database to a new file. Raises EnvironmentProblem; what was begun is removed."""
    if copy.exists():
        raise EnvironmentProblem(f"{copy} exists", hint="name a file that does not exist yet")
    connection = sqlite3.connect(sqlite_uri(path, "rw"), uri=True, timeout=5)
    try:
        connection.execute("VACUUM INTO ?", (os.fspath(copy),))
    except sqlite3.Error as error:
        copy.unlink(missing_ok=True)
        raise EnvironmentProblem(
            f"{copy} cannot be written: {error}", hint="name a file in a folder that is writable and has room"
        ) from None
    finally:
        connection.close()


def backup_name(path: Path) -> Path:
    """A free name beside the database, by the time."""
    return path.with_name(f"{path.name}.backup-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}")
