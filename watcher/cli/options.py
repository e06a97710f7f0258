"""What verbs share: global flags, --json and --db, opening settings and store, messages on stderr."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from watcher.errors import CkptwatchError, ConfigError


@dataclass
class Globals:
    """The flags before the verb."""

    config_file: str | None = None
    verbose: int = 0
    quiet: bool = False

    def settings_file(self) -> Path | None:
        """The file of -c, else ./ckptwatch.toml where there is one, else None."""
        from watcher.settings.names import DEFAULT_FILE

        if self.config_file is not None:
            if os.path.isdir(self.config_file):
                inside = os.path.join(self.config_file, DEFAULT_FILE)
                raise ConfigError(
                    f"-c {self.config_file} is a folder, not a settings file", hint=f"ckptwatch -c {inside} ..."
                )
            return Path(self.config_file)
        return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None


def examples(*lines: str) -> str:
    """The end of a verb's --help: one command a line, not wrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def db_option(command: Callable) -> Callable:
    return click.option("--db", metavar="FILE", help="Database: a file or an SQLAlchemy URL.")(command)


def with_config_option(command: click.Command) -> click.Command:
    """The verb, and each verb below it, with -c, which may also stand before it."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.obj.config_file = value

    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_config_option(below)
    if all(parameter.name != "config_file" for parameter in command.params):
        names = ["-c", "--config", "config_file"]
        option = click.Option(names, metavar="FILE", help="Settings file.", expose_value=False, callback=keep)
        command.params.append(option)
    return command


def database_url(flags: Globals, db: str | None, watched: Path | None = None) -> str:
    """--db over CKPTWATCH_DB over the file's [store] url over ./ckptwatch.db (moved out of a watched folder)."""
    from watcher.domain.database import DEFAULT_DATABASE
    from watcher.settings.names import any_settings
    from watcher.state.folder import default_database

    if db is not None:
        return usable_database(db, "--db")
    file = flags.settings_file()
    if not any_settings(file):
        return usable_database(default_database(DEFAULT_DATABASE, watched or []))
    from watcher.settings.load import load_settings

    settings = load_settings(file)
    return usable_database(default_database(settings.store.url, watched or [run.dir for run in settings.run]))


def usable_database(url: str, given_by: str = "the database") -> str:
    """The URL. Raises ConfigError, before anything is created, for what can hold no results."""
    from watcher.settings.database_url import database_url_problem

    if (problem := database_url_problem(url)) is not None:
        raise ConfigError(f"{given_by}: {problem}", hint="--db results.db, or [store] url in ckptwatch.toml")
    return url


def reading(flags: Globals, db: str | None):
    """The store, opened for queries only; closed when the verb ends."""
    from watcher.store.migrate import open_for_reading

    store = open_for_reading(database_url(flags, db))
    if (context := click.get_current_context(silent=True)) is not None:  # none while a shell completes
        context.call_on_close(store.close)
    return store


def db_flag(url: str) -> str:
    """`--db URL` for a command that people copy: quoted for the shell, without its password."""
    from watcher.store.engine import shown_url

    return f"--db {shlex.quote(shown_url(url))}"


#: A command in a hint that reads or writes the database.
_OF_DATABASE = re.compile(
    r"\bckptwatch (?:status|results|plot|compare|logs|samples|export|queue list|queue resume|db \w+)\b"
)


def on_database(error: CkptwatchError, arguments: Sequence[str]) -> CkptwatchError:
    """The error, the commands of its hint with the --db of the command line, so that they work when they are typed."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--db=") else [word])]
    given = next((after for word, after in itertools.pairwise(words) if word == "--db"), None)
    if given is not None and error.hint and "--db" not in error.hint:
        error.hint = _OF_DATABASE.sub(lambda found: f"{found[0]} {db_flag(given)}", error.hint)
    return error


def print_json(value: Any) -> None:
    """Strict JSON on stdout: non-finite numbers are null."""
    from watcher.report.format import json_text

    click.echo(json_text(value, indent=2))


def say(words: str) -> None:
    """A message on stderr."""
    click.echo(words, err=True)


def fail(error: CkptwatchError) -> None:
    """An error as people see it: cause, what was tried, the next command."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    label = click.style("error:", fg="red", bold=True) if colour else "error:"
    say(f"{label} {error.cause}")
    if error.tried:
        say(f"  tried: {error.tried}")
    if error.hint:
        say(f"  next:  {error.hint}")
