"""`ckptwatch db`: locate, check, migrate, back up and copy the database."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import click

from watcher.cli.options import Globals, database_url, db_option, examples, json_option, print_json, say
from watcher.errors import NothingFound, StoreRefused, UsageError


@click.group("db", epilog=examples("sqlite3 -readonly \"$(ckptwatch db path)\" 'SELECT step, loss FROM results'"))
def command() -> None:
    """The results database: path, check, migrate, backup, copy."""


@command.command("path", epilog=examples('sqlite3 -readonly "$(ckptwatch db path)"'))
@json_option
@db_option
@click.pass_obj
def path_(flags: Globals, as_json: bool, db: str | None) -> None:
    """Print the database's path (or URL)."""
    from watcher.store.engine import sqlite_path

    url = database_url(flags, db)
    file = sqlite_path(url)
    place = str(file.absolute()) if file is not None else url
    if as_json:
        print_json({"database": place, "exists": file.exists() if file is not None else None})
    else:
        click.echo(place)


@command.command("check", epilog="Example:  ckptwatch db check --json")
@json_option
@db_option
@click.pass_obj
def check(flags: Globals, as_json: bool, db: str | None) -> None:
    """Check every page, every reference and the schema. Changes nothing; exit status 7 on a problem."""
    from watcher.report.tables import as_facts
    from watcher.store.maintenance import check as look_over
    from watcher.store.maintenance import is_sound

    facts = look_over(database_url(flags, db))
    if as_json:
        print_json({**facts, "sound": is_sound(facts)})
    else:
        click.echo(as_facts(facts))
    if not is_sound(facts):
        older = facts.get("integrity") == "ok" and facts.get("schema") != facts.get("newest_schema")
        hint = "ckptwatch db migrate" if older else "restore a backup, or start a new database with --db FILE"
        raise StoreRefused(f"the database {facts.get('database', '')} failed the check", hint=hint)


@command.command("migrate", epilog="Example:  ckptwatch db migrate")
@json_option
@db_option
@click.pass_obj
def migrate(flags: Globals, as_json: bool, db: str | None) -> None:
    """Migrate the database to this version's schema, after a backup. The daemon does this when it starts."""
    from watcher.cli.showing import state_folder
    from watcher.pipeline.ownership import own_database
    from watcher.store.engine import sqlite_path
    from watcher.store.maintenance import check as look_over

    url = database_url(flags, db)
    file = sqlite_path(url)
    if file is not None and not file.exists():
        raise NothingFound(f"there is no database at {file}", hint="ckptwatch run creates one")
    own_database(url, state_folder(flags, db), "db").close()  # migrates it, with one writer at any time
    facts = look_over(url)
    if as_json:
        print_json(facts)
    else:
        say(f"schema {facts['schema']}: up to date")


@command.command("backup", epilog="Example:  ckptwatch db backup results-2026.db")
@click.argument("file", required=False)
@json_option
@db_option
@click.pass_obj
def backup(flags: Globals, file: str | None, as_json: bool, db: str | None) -> None:
    """Write a consistent copy, even while the daemon runs; FILE defaults to a name beside the database."""
    from watcher.store.backup import back_up_to, backup_name
    from watcher.store.engine import sqlite_path
    from watcher.store.migrate import refuse_unless_ours

    source = sqlite_path(database_url(flags, db))
    if source is None:
        raise UsageError("backup is for SQLite databases", hint="pg_dump")
    if not source.exists():
        raise NothingFound(f"there is no database at {source}", hint="ckptwatch db path prints the expected path")
    refuse_unless_ours(source, whole=False)
    copy = Path(file) if file is not None else backup_name(source)
    if copy.exists():
        raise UsageError(f"{copy} exists already", hint="give another FILE")
    back_up_to(source, copy)
    if as_json:
        print_json({"backup": str(copy), "bytes": copy.stat().st_size})
    else:
        click.echo(copy)


@command.command("copy", epilog="Example:  ckptwatch db copy postgresql+psycopg://eval@db.example/ckptwatch")
@click.argument("target", metavar="URL")
@json_option
@db_option
@click.pass_obj
def copy_(flags: Globals, target: str, as_json: bool, db: str | None) -> None:
    """Copy everything into another, empty database, e.g. from SQLite to PostgreSQL. No daemon may run."""
    import time

    from watcher.cli.showing import state_folder
    from watcher.domain.timestamps import iso
    from watcher.pipeline.ownership import own_database
    from watcher.store.engine import shown_url
    from watcher.store.migrate import open_for_reading, open_for_writing
    from watcher.store.transfer import transfer

    url = database_url(flags, db)
    with ExitStack() as opened:
        source = opened.enter_context(closing(open_for_reading(url)))
        opened.enter_context(closing(own_database(url, state_folder(flags, db), "db")))  # nothing else may write to it
        copied = transfer(source, opened.enter_context(closing(open_for_writing(target))), iso(time.time()))
    if as_json:
        print_json({"database": shown_url(target), "rows": copied})
    else:
        say(f"{copied['results']} result(s) and {copied['jobs']} job(s) are in {shown_url(target)}")
        say(f'next:  url = "{shown_url(target)}" under [store] in ckptwatch.toml')
