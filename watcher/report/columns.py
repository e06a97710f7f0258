"""Which columns of a result people see, under which head, and how each kind of number is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from watcher.domain.checkpoint import printable

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: its head and how a row's cell is written.

    number: set right and never cut. optional: left out where the terminal is narrow. tail: cut at its beginning.
    """

    head: str
    cell: Callable[[Row], str]
    number: bool = False
    optional: bool = False
    tail: bool = False


def result_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns worth showing for these rows: a run's or set's name only where there are several, and so on."""
    columns: list[Column] = []
    if len({row["run"] for row in rows}) > 1:
        columns.append(text_column("run"))
    columns.append(Column("step", lambda row: integer(row["step"]), True))
    if len({row["eval_set"] for row in rows}) > 1 or not rows:
        columns.append(text_column("eval_set", "set"))
    columns.append(Column("loss", loss, True))
    columns.append(Column("ppl", lambda row: decimal(row["ppl"], 3), True))
    if any(row["bits_per_byte"] is not None for row in rows):
        columns.append(Column("bits/byte", lambda row: decimal(row["bits_per_byte"], 4), True))
    if any(row["logged_val_loss"] is not None for row in rows):
        columns.append(Column("logged", lambda row: decimal(row["logged_val_loss"], 4), True, optional=True))
    columns.append(Column("tokens", lambda row: integer(row["tokens"]), True, optional=True))
    columns.append(Column("seconds", lambda row: decimal(row["eval_seconds"], 1), True, optional=True))
    columns.append(text_column("checkpoint", tail=True))
    if any(remarks(row) for row in rows):
        columns.append(Column("note", remarks))
    return columns


def text_column(key: str, head: str | None = None, *, tail: bool = False) -> Column:
    return Column(head or key, lambda row: printable(str(row[key])) if row[key] is not None else "-", tail=tail)


def number_column(key: str, head: str | None = None, digits: int | None = None) -> Column:
    def cell(row: Row) -> str:
        return integer(row[key]) if digits is None else decimal(row[key], digits)

    return Column(head or key, cell, True)


def loss(row: Row) -> str:
    """Loss with its standard error; a diverged model says so."""
    if row["loss"] is None:
        return "not finite"
    error = row["loss_stderr"]
    return decimal(row["loss"], 4) + (f" ±{error:.4f}" if error is not None else "")


def remarks(row: Row) -> str:
    said = ["older version"] if row["superseded"] else []
    if row.get("redefined"):
        said.append(f"{printable(row['eval_set'])} was defined otherwise")
    if row["note"]:
        said.append(printable(row["note"]))
    return "; ".join(said)


def integer(value: int | None) -> str:
    return "-" if value is None else str(value)


def decimal(value: float | None, digits: int) -> str:
    """Fixed digits, or a power of ten where that would be a wall of digits."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if abs(value) < 1e7 else f"{value:.3e}"


def duration(seconds: float | None) -> str:
    """`5 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    for size, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def size(count_bytes: float | None) -> str:
    """Bytes with a binary unit."""
    if count_bytes is None:
        return "-"
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
