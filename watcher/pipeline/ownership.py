"""The right to write to a database: its locks, then its store. All writers (daemon, `queue`, `eval`, `db`) ask here.

Closes in the opposite order, because closing the locked database file drops SQLite's own locks.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from watcher.domain.database import sqlite_file
from watcher.errors import EnvironmentProblem, LockHeld
from watcher.state.folder import StateFolder
from watcher.state.lock import DAEMON, DatabaseLock, Lock
from watcher.store.engine import Store
from watcher.store.migrate import open_for_writing


@dataclass(frozen=True)
class OwnedDatabase:
    """An open database that no other process writes to (on a server: none of the same state folder)."""

    store: Store
    state: StateFolder
    locks: tuple[Lock, ...]
    database_lock: DatabaseLock | None

    def keep_locks(self) -> bool:
        """Take a lock again whose file was removed under us. True where that was needed. Raises LockHeld."""
        lost = [lock for lock in self.locks if not lock.is_intact()]
        if lost:
            self.state.create()
        for lock in lost:
            lock.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock.release()
            try:
                lock.take()
            except LockHeld:
                if self.database_lock is None or not self.database_lock.covers():
                    raise  # another daemon is about to find the database locked: the next tick takes it again
        return bool(lost)

    def close(self) -> None:
        self.store.close()
        if self.database_lock is not None:
            self.database_lock.release()
        for lock in self.locks:
            lock.release()


def own_database(url: str, state: StateFolder, verb: str = DAEMON) -> OwnedDatabase:
    """Lock the state folder and the database, create or migrate it, and open it.

    verb: which command this is, for others that find it locked; the daemon is `run`.
    Raises LockHeld, EnvironmentProblem (a folder that cannot be made), StoreRefused, StoreUnavailable.
    """
    state.create()
    name = sqlite_file(url)
    folders = {state.root} if name is None else {state.root, StateFolder.beside(url).root}
    with ExitStack() as undo:
        locks = []
        for folder in sorted(folders):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = Lock(folder / "lock", state.root, verb)
                lock.take()
            except OSError as error:
                raise EnvironmentProblem(
                    f"the lock in {folder} cannot be taken: {error.strerror}",
                    hint="make the folder writable, or use another database with --db FILE",
                ) from None
            undo.callback(lock.release)
            locks.append(lock)
        database_lock = DatabaseLock(Path(name)) if name is not None else None
        if database_lock is not None:
            database_lock.take()
            undo.callback(database_lock.release)
        store = open_for_writing(url)
        undo.callback(store.close)
        if database_lock is not None and not database_lock.covers():  # it was made, by rename, just now
            database_lock = _cover(database_lock)
        undo.pop_all()
    return OwnedDatabase(store, state, tuple(locks), database_lock)


def _cover(stale: DatabaseLock) -> DatabaseLock:
    stale.release()  # another file than the store's: nothing of SQLite's is lost
    fresh = DatabaseLock(stale.file)
    fresh.take()
    return fresh
