"""What printing verbs share: is stdout a terminal, how wide, in colour; and the state folder beside the database."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from watcher.cli.options import Globals, database_url
from watcher.report.columns import Column
from watcher.report.tables import as_text


def terminal_width() -> int | None:
    """Columns of the terminal on stdout; None where stdout is a pipe or a file."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None


def in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    click.echo(as_text(columns, rows, width=terminal_width(), colour=in_colour()))


def painted(words: str, colour: str) -> str:
    return click.style(words, fg=colour) if in_colour() else words


def state_folder(flags: Globals, db: str | None):
    """The state folder that belongs to the database of these flags."""
    from watcher.config import load_settings
    from watcher.places import StateFolder

    settings = load_settings(flags.settings_file())
    return StateFolder.beside(database_url(flags, db), settings.store.state_dir)
