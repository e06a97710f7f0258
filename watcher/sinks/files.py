"""Results as a text file: JSON lines or CSV. Each row once, also after a write that was cut short.

Only whole lines count: a line without its line feed was cut short, is removed and written again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from watcher.errors import DeliveryError
from watcher.report.format import csv_cell
from watcher.sinks.protocol import Row
from watcher.sinks.row_identity import IDENTITY, Identity, exclusive, identity, ids_by_identity


class _AppendedFile:
    """A text file that grows by whole lines. torn: the last `send` removed a line that had been cut short."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.torn = False

    def close(self) -> None:
        pass

    def already(self, rows: Sequence[Row]) -> set[int]:
        wanted = ids_by_identity(rows, self._as_written)
        try:
            with open(self.path, "rb") as file:
                return {wanted[key] for key in self._identities(_whole_lines(file)) if key in wanted}
        except FileNotFoundError:
            return set()

    def send(self, rows: Sequence[Row]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "a+b") as file, exclusive(file.fileno()):
                before = file.seek(0, os.SEEK_END)
                end = _remove_torn_line(file)
                self.torn = end < before
                file.write(self._lines(rows, first=end == 0).encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DeliveryError(
                f"{self.path} cannot be written: {error.strerror or error}", hint="retried later"
            ) from None

    def _as_written(self, value: Any) -> Any:
        return value

    def _identities(self, lines: Iterator[str]) -> Iterator[Identity]:
        raise NotImplementedError

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        raise NotImplementedError


class JsonLines(_AppendedFile):
    """One object with the columns of `results` on each line."""

    def _identities(self, lines: Iterator[str]) -> Iterator[Identity]:
        for line in lines:
            try:
                yield identity(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # another program's line

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


class Csv(_AppendedFile):
    """A head, then one row for each result; a column that an older file's head lacks is left out of that file."""

    def _as_written(self, value: Any) -> str:
        cell = csv_cell(value)
        return "" if cell is None else str(cell)

    def _identities(self, lines: Iterator[str]) -> Iterator[Identity]:
        for row in csv.DictReader(lines):
            if all(row.get(key) is not None for key in IDENTITY):
                yield identity(row)

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        head = list(rows[0]) if first else self._head()
        text = io.StringIO()
        writer = csv.DictWriter(text, head, extrasaction="ignore", lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in rows)
        return text.getvalue()

    def _head(self) -> list[str]:
        with open(self.path, encoding="utf-8", errors="backslashreplace", newline="") as file:
            head = next(csv.reader(file))
        missing = [key for key in IDENTITY if key not in head]
        if missing:
            raise DeliveryError(
                f"{self.path} is not a file of results: its first line has no column {missing[0]}",
                hint="set another `path` in [[sink]], or move this file away",
            )
        return head


def _whole_lines(file: BinaryIO) -> Iterator[str]:
    for line in file:
        if line.endswith(b"\n"):
            yield line.decode("utf-8", "backslashreplace")


def _remove_torn_line(file: Any) -> int:
    """Leave the file ending in a line feed; returns its length in bytes."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    file.truncate(end)
    file.seek(end)
    return end
