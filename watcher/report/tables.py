"""Rows as text: a table that fits the terminal, aligned plain text in a pipe, Markdown, CSV, JSON lines.

What a cell of a table holds is decided in columns.py. CSV and JSON lines keep all digits of a number. Never leaves out
a column or cuts a cell: what does not fit beside the others stands in lines below its row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from watcher.report.columns import Column, Row
from watcher.report.format import NONE, cell_width, csv_cell, json_text, wrapped

NAME_MIN = 16  # minimum width of a column with long names; the rest is wrapped to the next line
TEXT_MIN = 28  # of a sentence
GAP = "  "
INDENT = "    "


def as_text(columns: Sequence[Column], rows: Sequence[Row], *, width: int | None = None, colour: bool = False) -> str:
    """A table. width: the terminal's columns, into which it is fitted; None in a pipe, where no line is wrapped.

    Long names and sentences are wrapped in their columns. Where that does not suffice, whole columns move into lines
    below their row, each as `head value`: first sentences, then optional columns, then the last ones.
    """
    cells = [[column.cell(row) for column in columns] for row in rows]
    wide = [max([cell_width(column.head), *(cell_width(line[at]) for line in cells)]) for at, column in _each(columns)]
    kept, widths = _layout(columns, wide, width)
    below = [at for at, _ in _each(columns) if at not in kept]
    head = _lines([columns[at].head for at in kept], widths, [columns[at].number for at in kept])
    out = [f"\x1b[1m{line}\x1b[0m" if colour else line for line in head]
    if width is not None:
        out.append(GAP.join("─" * wide for wide in widths))
    for line in cells:
        out += _lines([line[at] for at in kept], widths, [columns[at].number for at in kept])
        facts = [f"{columns[at].head} {line[at]}" for at in below if line[at] not in ("", NONE)]
        out += _below(facts, width) if facts and width is not None else []
    return "\n".join(out)


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


def _each(columns: Sequence[Column]) -> list[tuple[int, Column]]:
    return list(enumerate(columns))


def _layout(columns: Sequence[Column], wide: Sequence[int], width: int | None) -> tuple[list[int], list[int]]:
    """The places of the columns that stand beside each other, and their widths. Numbers are never wrapped."""
    kept = list(range(len(columns)))
    if width is None:
        return kept, list(wide)
    while True:
        least = [wide[at] if columns[at].number else min(wide[at], _least(columns[at])) for at in kept]
        spare = width - sum(least) - len(GAP) * (len(kept) - 1)
        if spare >= 0 or len(kept) == 1:
            break
        last = [at for at in kept if columns[at].sentence] or [at for at in kept if columns[at].optional] or kept
        kept.remove(last[-1])
    widths = dict(zip(kept, least, strict=True))
    for at in sorted(kept, key=lambda at: wide[at]):  # short names are whole before long ones grow
        growing = sum(1 for other in kept if wide[other] >= wide[at] and wide[other] > widths[other])
        more = min(wide[at] - widths[at], max(0, spare) // max(1, growing))
        widths[at] += more
        spare -= more
    return kept, [min(widths[at], width) for at in kept]


def _least(column: Column) -> int:
    return max(cell_width(column.head), TEXT_MIN if column.sentence else NAME_MIN)


def _lines(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> list[str]:
    """One row of cells: as many lines as its longest cell has."""
    parts = [wrapped(cell, wide) for cell, wide in zip(cells, widths, strict=True)]
    lines = []
    for at in range(max(map(len, parts), default=0)):
        line = [part[at] if at < len(part) else "" for part in parts]
        padded = [
            " " * (wide - cell_width(cell)) + cell if number else cell + " " * (wide - cell_width(cell))
            for cell, wide, number in zip(line, widths, numbers, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return lines


def _below(facts: Sequence[str], width: int) -> list[str]:
    """`head value` of each moved column, several on a line where they fit, indented."""
    room = max(width - len(INDENT), 8)
    lines: list[str] = []
    for fact in facts:
        if lines and cell_width(lines[-1]) + len(GAP) + cell_width(fact) <= room:
            lines[-1] += GAP + fact
        else:
            lines += wrapped(fact, room)
    return [INDENT + line for line in lines]
