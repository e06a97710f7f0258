"""Which columns of a result people see, and under which head. How a number is written: format.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watcher.report.format import decimal, integer, text, wrapped

Row = dict[str, Any]
NOTE_MIN = 16  # characters: a shorter part is written out in each row
NOTE_MAX = 40  # a longer one stands below the table, also that of one row


@dataclass(frozen=True)
class Column:
    """One column of a table: its head and how a row's cell is written.

    number: right-aligned and never wrapped. sentence: wrapped at its words; both it and an optional column move below
    their row where the terminal is narrow.
    """

    head: str
    cell: Callable[[Row], str]
    number: bool = False
    optional: bool = False
    sentence: bool = False


def result_columns(rows: Sequence[Row], *, with_run: bool = False) -> list[Column]:
    """The columns worth showing for these rows: a run's or set's name only where there are several, and so on.

    with_run: there are other runs than those of these rows.
    """
    columns: list[Column] = []
    if with_run or len({row["run"] for row in rows}) > 1:
        columns.append(text_column("run"))
    columns.append(Column("step", lambda row: integer(row["step"]), True))
    if len({row["eval_set"] for row in rows}) > 1 or not rows:
        columns.append(text_column("eval_set", "set"))
    if any(row.get("accuracy") is not None for row in rows):
        columns.append(Column("accuracy", accuracy, True))
    if any(row.get("accuracy_norm") is not None for row in rows):
        columns.append(Column("acc norm", lambda row: decimal(row["accuracy_norm"]), True))
    columns.append(Column("loss", loss, True))
    if any(row.get("task") is None for row in rows):
        columns.append(Column("ppl", lambda row: decimal(row["ppl"], 3), True))
    if any(row["bits_per_byte"] is not None for row in rows):
        columns.append(Column("bits/byte", lambda row: decimal(row["bits_per_byte"]), True))
    if any(row["logged_val_loss"] is not None and row.get("task") is None for row in rows):
        columns.append(Column("logged", _logged, True, optional=True))
    if any(row.get("items") is not None for row in rows):
        columns.append(Column("items", lambda row: integer(row["items"]), True, optional=True))
    if any(row.get("weights") is not None for row in rows):
        columns.append(text_column("weights"))
    columns.append(Column("tokens", lambda row: integer(row["tokens"]), True, optional=True))
    columns.append(Column("seconds", lambda row: decimal(row["eval_seconds"], 1), True, optional=True))
    columns.append(text_column("checkpoint"))
    if any(remarks(row) for row in rows):
        marks = notes_below(rows)
        columns.append(Column("note", lambda row: remarks(row, marks), sentence=True))
    return columns


def notes_below(rows: Sequence[Row]) -> dict[str, str]:
    """Parts of notes that are long, or that several rows have -> the mark that stands for each in the table: `[1]`."""
    parts = [part for row in rows for part in dict.fromkeys(_parts(row["note"]))]
    below = [part for part in dict.fromkeys(parts) if len(part) > (NOTE_MIN if parts.count(part) > 1 else NOTE_MAX)]
    return {part: f"[{number}]" for number, part in enumerate(below, 1)}


def footnotes(rows: Sequence[Row], width: int | None = None) -> list[str]:
    """The lines below a table: each of `notes_below` once, behind its mark; wrapped where a width is given."""
    notes = [f"{mark} {text(part)}" for part, mark in notes_below(rows).items()]
    return notes if width is None else [line for note in notes for line in wrapped(note, width)]


def _parts(note: str | None) -> list[str]:
    return (note or "").split("; ")


def _logged(row: Row) -> str:
    return decimal(None if row.get("task") is not None else row["logged_val_loss"])


def text_column(key: str, head: str | None = None, *, optional: bool = False, sentence: bool = False) -> Column:
    return Column(head or key, lambda row: text(row[key]), optional=optional, sentence=sentence)


def loss(row: Row) -> str:
    """Loss with its standard error; `not finite` for a diverged model."""
    if row["loss"] is None:
        return "not finite"
    error = row["loss_stderr"]
    return decimal(row["loss"]) + (f" ±{decimal(error)}" if error is not None else "")


def accuracy(row: Row) -> str:
    """Accuracy of a task with its standard error."""
    error = row["accuracy_stderr"]
    return decimal(row["accuracy"]) + (f" ±{decimal(error)}" if error is not None else "")


def remarks(row: Row, marks: Mapping[str, str] | None = None) -> str:
    """What is unusual about a row: an older version, another definition of the set, its note.

    marks: what stands in the place of parts of notes that are written below the table.
    """
    parts = ["older version"] if row["superseded"] else []
    if row.get("redefined"):
        parts.append(f"another definition of {text(row['eval_set'])}")
    if row["note"]:
        parts.append(text("; ".join((marks or {}).get(part, part) for part in _parts(row["note"]))))
    return "; ".join(parts)
