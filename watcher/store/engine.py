"""Opening the database: one writer connection with the right pragmas, readers that cannot write, errors in our words.

Never creates tables (migrate.py does) and never decides anything about jobs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import QueuePool, StaticPool

from watcher.errors import ConfigError, EnvironmentProblem, StoreUnavailable
from watcher.store.reading import begin_reading, sqlite_uri

BUSY_TIMEOUT_MS = 5_000
READERS = 4  # connections that a reading process keeps open
#: Before this release a WAL database that two connections write and checkpoint at once can be corrupted.
WAL_RESET_FIXED = (3, 51, 3)
#: File systems on which SQLite's shared memory cannot be trusted: WAL is not used there.
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuseblk", "lustre", "gpfs", "ceph", "beegfs"}
)


@dataclass
class Store:
    """An open database. `write()` and `read()` give one transaction each."""

    engine: Engine
    url: str
    path: Path | None  # SQLite's file; None on PostgreSQL
    readonly: bool = False
    identity: tuple[int, int] | None = None  # (dev, inode) of the file when it was opened
    writes: int = 0  # transactions begun: what was read before the last one may be old

    @property
    def shared(self) -> bool:
        """May other daemons write to it too? On a server they may."""
        return self.path is None

    @contextmanager
    def write(self, alone: str | None = None) -> Iterator[Connection]:
        """One transaction that takes the write lock at its start. Raises StoreUnavailable when it cannot be had.

        alone: on a server, wait for every other transaction of the same name to end (SQLite has one writer anyway).
        """
        self._still_there()
        self.writes += 1
        try:
            with self.engine.begin() as tx:
                if alone is not None and self.shared:
                    key = {"name": f"ckptwatch {alone}"}
                    tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), key)
                yield tx
        except DBAPIError as error:
            raise unavailable(error, self.url) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise unavailable(error, self.url) from error

    def close(self) -> None:
        self.engine.dispose()
        if self.identity is not None and not self.readonly:
            _OPEN_FOR_WRITING.discard(self.identity)

    def _still_there(self) -> None:
        """Raise StoreUnavailable where the file was unlinked or replaced: writes to it would be lost."""
        if self.path is None or self.identity is None:
            return
        try:
            status = self.path.stat()
        except OSError as error:
            raise StoreUnavailable(
                f"the database {self.path} is gone: {error.strerror}",
                hint="put it back, or restart ckptwatch to begin a new one",
            ) from None
        if (status.st_dev, status.st_ino) != self.identity:
            raise StoreUnavailable(
                f"the database {self.path} was replaced by another file while it was open",
                hint="restart ckptwatch to use the new file",
            )


def open_store(url: str, *, readonly: bool = False) -> Store:
    """Open an existing, migrated database. `url` is an SQLAlchemy URL, or a path to SQLite's file."""
    path = sqlite_path(url)
    if path is None:
        return Store(_postgres(url, readonly=readonly), url, None, readonly)
    engine = sqlite_engine(path, readonly=readonly)
    status = path.stat()
    identity = (status.st_dev, status.st_ino)
    if not readonly:
        _OPEN_FOR_WRITING.add(identity)
    return Store(engine, url, path, readonly, identity)


#: (dev, inode) of the files that this process writes to. Closing any other descriptor of such a file would drop the
#: locks that SQLite holds on it, and another process could corrupt it.
_OPEN_FOR_WRITING: set[tuple[int, int]] = set()


def is_written_here(path: Path) -> bool:
    """Does this process have the file open for writing? Then it must not open and close it by other means."""
    status = path.stat()
    return (status.st_dev, status.st_ino) in _OPEN_FOR_WRITING


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL or plain path; None for another engine."""
    if "://" not in url:
        return Path(url)
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def sqlite_engine(path: Path, *, readonly: bool, foreign_keys: bool = True) -> Engine:
    name = sqlite_uri(path, "ro" if readonly else "rw")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            name, uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
            if not readonly:
                _set_journal_mode(connection, journal_mode(path))
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA journal_size_limit = 16777216")
        except BaseException:
            connection.close()
            raise
        return connection

    if not readonly:
        engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    # a new connection reads the schema first: that costs more than most questions of a page
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=READERS, max_overflow=READERS)
    event.listen(engine, "begin", partial(begin_reading, path))
    event.listen(engine, "connect", partial(_note_file, path))
    event.listen(engine, "checkout", partial(_refuse_replaced_file, path))
    return engine


def _note_file(path: Path, connection: Any, record: Any) -> None:
    record.info["file"] = _file_of(path)


def _refuse_replaced_file(path: Path, connection: Any, record: Any, proxy: Any) -> None:
    """A connection to a file that was replaced meanwhile is thrown away, and the pool opens the new one."""
    if record.info["file"] != _file_of(path):
        raise DisconnectionError(f"{path} was replaced")


def _file_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_journal_mode(connection: sqlite3.Connection, mode: str) -> None:
    """A database in WAL mode stays so while another process reads it: both modes are sound."""
    try:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise


def journal_mode(path: Path, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """WAL where this SQLite and this file system can be trusted with it; else a rollback journal that is kept as it is.

    To delete or shorten it would cost a change of the folder or of the file's size on disk for every commit.
    """
    if version < WAL_RESET_FIXED or filesystem_type(path) in NETWORK_FILESYSTEMS:
        return "PERSIST"
    return "WAL"


def filesystem_type(path: Path) -> str:
    """The type of the mount that holds the path, as /proc/self/mounts names it; "" where that cannot be read."""
    best, kind = "", ""
    target = os.path.realpath(path)
    try:
        lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount, name, *_ = line.split(" ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, name
    return kind.split(".")[0]


def shown_url(url: str) -> str:
    """The URL without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True) if "://" in url else url


def unavailable(error: DBAPIError, url: str) -> Exception:
    """What a driver's error means for the daemon: wait and try again, or a defect that must be seen."""
    message, url = str(error.orig).lower(), shown_url(url)
    if "no such table" in message or "no such view" in message or "undefinedtable" in type(error.orig).__name__.lower():
        remedy = (
            "`ckptwatch db check` names what is missing of ckptwatch's own, and `ckptwatch db migrate` creates dropped "
            "views again; where another name is missing, drop the trigger or view that uses it (`SELECT name, sql FROM "
            "sqlite_master WHERE type IN ('trigger', 'view')`); a daemon keeps trying"
        )
        return StoreUnavailable(f"the database {url} lacks a table or view: {error.orig}", hint=remedy)
    for sign, remedy in (
        ("locked", "another process holds it: end its transaction, then run this again (a daemon keeps trying)"),
        ("full", "free some space; the daemon then continues"),
        ("readonly", "make the file and its folder writable, or run this as their owner; a daemon then continues"),
        ("read-only", "make the file and its folder writable; the daemon then continues"),
        ("i/o error", "look at the disk with `dmesg`; the daemon keeps trying"),
        ("unable to open", "look at the folder's permissions; the daemon keeps trying"),
        ("connection", "is the database server up? The daemon keeps trying"),
        ("database system is", "the database server starts or stops; the daemon keeps trying"),
        ("deadlock", "another daemon was quicker; this one tries again"),
        ("name or service not known", "is the database server's name right? The daemon keeps trying"),
    ):
        if sign in message:
            return StoreUnavailable(f"the database {url} cannot be used: {error.orig}", hint=remedy)
    if "malformed" in message or "not a database" in message:
        return EnvironmentProblem(f"the database {url} is damaged: {error.orig}", hint="ckptwatch db check")
    return error


def _postgres(url: str, *, readonly: bool) -> Engine:
    if make_url(url).get_backend_name() != "postgresql":
        hint = "--db results.db, or --db postgresql+psycopg://user@host/name"
        raise ConfigError(f"{shown_url(url)} is neither SQLite nor PostgreSQL", hint=hint)
    try:
        more = {"execution_options": {"postgresql_readonly": True}} if readonly else {}
        return create_engine(url, pool_pre_ping=True, pool_size=2, connect_args={"connect_timeout": 10}, **more)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the driver for {shown_url(url)} is not installed: {error}",
            hint="in a clone of ckptwatch: pip install '.[postgres]'",
        ) from None


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that turns into a write ignores busy_timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
