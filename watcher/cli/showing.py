"""What printing verbs share: terminal width and colour, tables, a progress line, the state folder."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.options import Globals, database_url
from watcher.report.columns import Column, footnotes
from watcher.report.tables import as_text

if TYPE_CHECKING:
    from evalcore.progress import Progress


def terminal_width() -> int | None:
    """Columns of the terminal on stdout; None where stdout is a pipe or a file."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None


def in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    click.echo(as_text(columns, rows, width=terminal_width(), colour=in_colour()))


def print_footnotes(rows: Sequence[dict[str, Any]]) -> None:
    """The notes below a table of results, in lines of a terminal's width; in a pipe of 100 columns."""
    if lines := footnotes(rows, terminal_width() or 100):
        click.echo("\n" + "\n".join(lines))


class ProgressLine:
    """One line that is overwritten at most ten times a second; silent where stderr is no terminal.

    No escape sequences, so that NO_COLOR and the plainest terminal are served as well.
    """

    def __init__(self) -> None:
        self._shown, self._at_s, self._phase = "", 0.0, ""
        self._silent = not sys.stderr.isatty()

    def __call__(self, now: Progress) -> None:
        from watcher.report import progress

        at_s = time.monotonic()
        if self._silent or (at_s - self._at_s < 0.1 and now.phase == self._phase):
            return
        self._at_s, self._phase, record = at_s, now.phase, asdict(now)
        room = shutil.get_terminal_size((80, 24)).columns - 1  # a line that wraps could not be written over
        line = " ".join(filter(None, (progress.words(record, time.time()), progress.bar(progress.share(record), 12))))
        self._write(line[:room])

    def end(self) -> None:
        """Erase the line."""
        if self._shown:
            self._write("")
            click.echo("\r", nl=False, err=True)

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def _write(self, line: str) -> None:
        if line != self._shown:
            click.echo(f"\r{line:<{len(self._shown)}}", nl=False, err=True)
            self._shown = line


def painted(words: str, colour: str) -> str:
    return click.style(words, fg=colour) if in_colour() else words


def state_folder(flags: Globals, db: str | None):
    """The state folder that belongs to the database of these flags."""
    from watcher.settings.names import any_settings
    from watcher.state.folder import StateFolder

    chosen, file = None, flags.settings_file()
    if any_settings(file):
        from watcher.settings.load import load_settings

        chosen = load_settings(file).store.state_dir
    return StateFolder.of_database(database_url(flags, db), chosen)
