"""Rows as text: a table that fits the terminal, aligned plain text in a pipe, Markdown, CSV, JSON lines.

What a cell of a table holds is decided in columns.py. CSV and JSON lines keep all digits of a number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from watcher.report.columns import Column, Row
from watcher.report.format import csv_cell, json_text

MIN_NAME = 12


def as_text(columns: Sequence[Column], rows: Sequence[Row], *, width: int | None = None, colour: bool = False) -> str:
    """A table. width: the terminal's columns, into which it is fitted; None in a pipe, where nothing is cut off."""
    if width is None:
        return _aligned(columns, rows)
    return _fitted(columns, rows, width, colour)


def as_markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A GitHub table; `|` in a name is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    rule = "| " + " | ".join("---:" if column.number else "---" for column in columns) + " |"
    body = [line([column.cell(row) for column in columns]) for row in rows]
    return "\n".join([line([column.head for column in columns]), rule, *body])


def as_jsonl(rows: Sequence[Row]) -> str:
    return "\n".join(map(json_text, rows))


def as_csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """RFC 4180 with a head line; an empty cell is NULL. Texts that spreadsheets would evaluate are escaped."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(row[column]) for column in columns] for row in rows)
    return out.getvalue().rstrip("\n")


def as_facts(facts: dict[str, Any], indent: str = "") -> str:
    """One line for each name and value."""
    wide = max(map(len, facts), default=0)
    return "\n".join(f"{indent}{name:<{wide}}  {value}" for name, value in facts.items())


def _aligned(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    cells = [[column.head for column in columns]]
    cells += [[column.cell(row) for column in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    lines = []
    for line in cells:
        padded = [
            cell.rjust(wide) if column.number else cell.ljust(wide)
            for cell, wide, column in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _fitted(columns: Sequence[Column], rows: Sequence[Row], width: int, colour: bool) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns, widths = _layout(columns, rows, width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold" if colour else "")
    for column in columns:
        table.add_column(column.head, justify="right" if column.number else "left", no_wrap=True)
    for row in rows:
        cells = zip(columns, widths, strict=True)
        table.add_row(*(Text(_cut(column.cell(row), wide, column.tail)) for column, wide in cells))
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _layout(columns: Sequence[Column], rows: Sequence[Row], width: int) -> tuple[list[Column], list[int]]:
    """Which columns fit, and how wide: numbers stay whole, names share the remaining width.

    Where it is too narrow for all, optional columns are dropped first and then the last ones.
    """
    kept = list(columns)
    while True:
        wide = [max(len(column.head), *(len(column.cell(row)) for row in rows), 1) for column in kept]
        least = [w if column.number else min(w, MIN_NAME) for column, w in zip(kept, wide, strict=True)]
        spare = width - sum(least) - 3 * len(kept) - 2  # SIMPLE_HEAD with padding of one on each side
        optional = [column for column in kept if column.optional]
        if spare >= 0 or (not optional and len(kept) <= 2):
            break
        kept.remove((optional or kept)[-1])
    for at in sorted(range(len(kept)), key=lambda at: wide[at]):  # short names are whole before long ones grow
        names_left = sum(1 for other in range(len(kept)) if wide[other] >= wide[at] and wide[other] > least[other])
        more = min(wide[at] - least[at], max(0, spare) // max(1, names_left))
        least[at] += more
        spare -= more
    return kept, least


def _cut(text: str, width: int, tail: bool) -> str:
    if len(text) <= width:
        return text
    return "…" + text[len(text) - width + 1 :] if tail else text[: width - 1] + "…"
