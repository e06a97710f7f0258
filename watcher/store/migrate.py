"""Bringing a database to this version's schema, and refusing, untouched, whatever is not ours to change.

A new file is made whole under a temporary name and renamed into place. An existing one is copied first
(`VACUUM INTO`), then migrated in one transaction. Alembic is loaded only where there is something to migrate: it is an
eighth of the daemon's memory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from watcher.errors import EnvironmentProblem, NothingFound, StoreRefused
from watcher.failpoints import failpoint
from watcher.store.backup import back_up_to, backup_name
from watcher.store.engine import (
    Store,
    is_written_here,
    open_store,
    shown_url,
    sqlite_engine,
    sqlite_path,
    unavailable,
)
from watcher.store.reading import sqlite_uri
from watcher.store.schema import APPLICATION_ID, REVISION
from watcher.store.views import VIEWS

if TYPE_CHECKING:
    from alembic.config import Config

_MAGIC = b"SQLite format 3\0"


def open_for_writing(url: str) -> Store:
    """Create, check, back up and migrate as needed, then open. Raises StoreRefused and leaves the file as it is."""
    path = sqlite_path(url)
    if path is None:
        store = open_store(url)
        with _closed_on_error(store), store.write(alone="migrate") as tx:
            revision = revision_of(tx)
            if revision != head_revision():
                if revision is not None and revision not in known_revisions():
                    raise StoreRefused(
                        f"the database {shown_url(url)} was made by a newer ckptwatch (schema {revision})",
                        hint="pip install -U ckptwatch",
                    )
                upgrade(tx)
        return store
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    else:
        refuse_unless_ours(path)
    store = open_store(url)
    with _closed_on_error(store), store.read() as connection:
        pending = revision_of(connection) != head_revision()
        whole = pending or missing_views(connection) == set()
    if pending:
        store.close()
        back_up(path)
        _migrate(path)
        store = open_store(url)
    elif not whole:
        with _closed_on_error(store), store.write() as tx:
            create_views(tx)
    return store


def open_for_reading(url: str) -> Store:
    """Open for queries only. Raises NothingFound without a database, StoreRefused for one that is not ours."""
    path = sqlite_path(url)
    if path is not None:
        if not path.exists():
            raise NothingFound(
                f"there is no database at {path}",
                hint="start `ckptwatch run`, or name the database with --db FILE",
            )
        refuse_unless_ours(path, whole=False)
    store = open_store(url, readonly=True)
    with _closed_on_error(store), store.read() as connection:
        if revision_of(connection) != head_revision():
            raise StoreRefused(f"the database {shown_url(url)} has an older schema", hint="ckptwatch db migrate")
    return store


@contextmanager
def _closed_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise


def refuse_unless_ours(path: Path, *, whole: bool = True) -> None:
    """Raise StoreRefused for a foreign, newer or damaged file. Reads only; `whole` also checks every page."""
    if is_written_here(path):
        return  # checked when it was opened; the daemon's own dashboard asks again
    with open(path, "rb") as file:
        header = file.read(100)
    if header[:16] != _MAGIC or len(header) < 100:
        raise _refused(path, "is not an SQLite database")
    application = int.from_bytes(header[68:72], "big")
    if application != APPLICATION_ID:
        raise _refused(path, f"belongs to another program (application id 0x{application:08x})")
    connection = sqlite3.connect(sqlite_uri(path, "rw"), uri=True, timeout=5)
    try:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision is not None and revision[0] != REVISION and revision[0] not in known_revisions():
            raise _refused(path, f"was made by a newer ckptwatch (schema {revision[0]})", "pip install -U ckptwatch")
        if whole and (damage := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _refused(path, f"is damaged: {damage}")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "readonly" in str(error):
            return  # opening it will say so, and wait
        raise _refused(path, f"is damaged: {error}") from None
    finally:
        connection.close()


def back_up(path: Path) -> Path:
    """A consistent copy beside the database, named by the time. Raises StoreRefused where there is no room for it."""
    copy = backup_name(path)
    try:
        back_up_to(path, copy)
    except EnvironmentProblem as error:
        why = f"is to be migrated, and no copy of it could be made first: {error.cause}"
        raise _refused(path, why, "make room beside it, or name another with --db FILE") from None
    return copy


def upgrade(connection: Connection) -> None:
    """Run the pending versions and lay the views anew, inside the caller's transaction."""
    from alembic import command

    kept = _objects_of_the_user(connection)
    for view in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    failpoint("after_migration")
    create_views(connection)
    remaining = _objects_of_the_user(connection)
    for name, statement in kept.items():
        if name not in remaining:
            connection.exec_driver_sql(statement)


def create_views(connection: Connection) -> None:
    """Create all views again, dropped ones included."""
    for view, query in VIEWS.items():
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
        connection.execute(text(f"CREATE VIEW {view} AS {query}"))


def missing_views(connection: Connection) -> set[str]:
    return set(VIEWS) - set(inspect(connection).get_view_names())


def _migrate(path: Path) -> None:
    """Upgrade on a connection of its own without foreign keys: a table made anew must not delete what refers to it."""
    engine = sqlite_engine(path, readonly=False, foreign_keys=False)
    try:
        with engine.begin() as tx:
            tx.exec_driver_sql("PRAGMA legacy_alter_table = ON")  # a user's view of `results` would refuse its renaming
            upgrade(tx)
            if dangling := tx.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
                raise _refused(path, f"cannot be migrated: {len(dangling)} rows refer to rows that do not exist")
    except DBAPIError as error:
        raise unavailable(error, os.fspath(path)) from error
    finally:
        engine.dispose()


def _objects_of_the_user(connection: Connection) -> dict[str, str]:
    """Triggers and indexes that are not ours, each with its statement: a table made anew may lose them."""
    if connection.dialect.name != "sqlite":
        return {}
    query = """SELECT name, sql FROM sqlite_master WHERE type = 'trigger'
               OR (type = 'index' AND sql IS NOT NULL AND substr(name, 1, 3) <> 'ix_')"""
    return {row[0]: row[1] for row in connection.exec_driver_sql(query)}


def revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def head_revision() -> str:
    return REVISION


def known_revisions() -> set[str]:
    """Every schema that this version can bring up to date."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    connection = sqlite3.connect(fresh)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.close()
    engine = sqlite_engine(fresh, readonly=False)
    try:
        with engine.begin() as tx:
            upgrade(tx)
    except DBAPIError as error:
        fresh.unlink()
        raise unavailable(error, os.fspath(path)) from error
    finally:
        engine.dispose()
    os.replace(fresh, path)
    fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)  # kept, empty, by journal_mode PERSIST
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _config() -> Config:
    from alembic.config import Config

    package = Path(__file__).parents[1]
    installed, checkout = package / "migrations", package.parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(installed if installed.is_dir() else checkout).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _refused(path: Path, why: str, hint: str = "name another with --db FILE, or look at it with `ckptwatch db check`"):
    return StoreRefused(f"the database {path} {why}; it was left untouched", hint=hint)
