"""Results as a file: JSON lines, CSV, Parquet. Each row once, whatever was cut short before."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.sinks.protocol import Row, SinkError, library


class _AppendedFile:
    """A text file that grows by whole lines. A half line that a crash left is cut off before the next is written."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    def close(self) -> None:
        pass

    def already(self, rows: Sequence[Row]) -> set[int]:
        wanted = {row["id"] for row in rows}
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                return wanted & set(self._ids(file))
        except FileNotFoundError:
            return set()

    def send(self, rows: Sequence[Row]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "a+b") as file:
                end = _cut_half_line(file)
                file.write(self._lines(rows, first=end == 0).encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(
                f"{self.path} cannot be written: {error.strerror or error}", hint="tried again later"
            ) from None

    def _ids(self, file: Any) -> list[int]:
        raise NotImplementedError

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        raise NotImplementedError


class JsonLines(_AppendedFile):
    """One object with the columns of `results` on each line."""

    def _ids(self, file: Any) -> list[int]:
        found = []
        for line in file:
            try:
                found.append(int(json.loads(line)["id"]))
            except (ValueError, KeyError, TypeError):
                continue  # a half line, or somebody else's
        return found

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


class Csv(_AppendedFile):
    """A head, then one row for each result; a column that the file does not know yet is left out of it."""

    def _ids(self, file: Any) -> list[int]:
        return [int(row["id"]) for row in csv.DictReader(file) if (row.get("id") or "").isdigit()]

    def _lines(self, rows: Sequence[Row], first: bool) -> str:
        head = list(rows[0]) if first else self._head()
        text = io.StringIO()
        writer = csv.DictWriter(text, head, extrasaction="ignore", lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _head(self) -> list[str]:
        with open(self.path, encoding="utf-8", newline="") as file:
            return next(csv.reader(file))


class Parquet:
    """One table with the columns of `results`, written anew beside the old one and renamed over it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._arrow = library("pyarrow", "parquet")
        self._files = library("pyarrow.parquet", "parquet")

    def already(self, rows: Sequence[Row]) -> set[int]:
        if not self.path.exists():
            return set()
        return {row["id"] for row in rows} & set(self._read().column("id").to_pylist())

    def send(self, rows: Sequence[Row]) -> None:
        """A row that the file has already is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = self._arrow.Table.from_pylist(list(rows), schema=self._schema(rows[0]))
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            if self.path.exists():
                ids = self._arrow.array([row["id"] for row in rows], type=self._arrow.int64())
                compute = library("pyarrow.compute", "parquet")
                before = self._read()
                kept = before.filter(compute.invert(compute.is_in(before.column("id"), value_set=ids)))
                table = self._arrow.concat_tables([kept, table], promote_options="permissive")
            self._files.write_table(table, temporary)
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SinkError(f"{self.path} cannot be written: {error}", hint="tried again later") from None

    def close(self) -> None:
        pass

    def _read(self) -> Any:
        return self._files.read_table(self.path)

    def _schema(self, row: Row) -> Any:
        """Types by column, not by what the first rows happen to hold."""
        arrow = self._arrow
        return arrow.schema([(key, getattr(arrow, _type_of(key))()) for key in row])


_FLOATS = ("loss", "ppl", "bits_per_byte", "loss_stderr", "load_seconds", "eval_seconds", "tokens_per_second")
_TEXTS = ("run", "checkpoint", "eval_set", "dtype", "device", "note", "checkpoint_digest", "eval_digest")
_MORE_TEXTS = ("evalcore_version", "torch_version", "saved_at", "evaluated_at")


def _type_of(column: str) -> str:
    if column in _FLOATS or column == "logged_val_loss":
        return "float64"
    return "string" if column in _TEXTS or column in _MORE_TEXTS else "int64"


def _cut_half_line(file: Any) -> int:
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
