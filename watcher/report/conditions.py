"""The filter and order that `results --where` and `--sort` take: `column operator value`, checked against the columns.

Pure. Values are never part of an SQL text: the store binds them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from watcher.domain.checkpoint import printable
from watcher.errors import UsageError

_CONDITION = re.compile(
    r"""\s*(?P<column>\w+)\s*
        (?:(?P<null>is\s+(?:not\s+)?null)
           |(?P<operator><=|>=|<>|!=|==|=|<|>|\b(?:not\s+)?like\b)\s*(?P<value>'(?:[^']|'')*'|"[^"]*"|[^\s'"]+))\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_AND = re.compile(r"and\b", re.IGNORECASE)
_SAME = {"==": "=", "<>": "!="}
EXAMPLES = "--where 'step >= 1000', --where \"loss < 3 and eval_set = 'val'\", --where 'note is not null'"


class Condition(NamedTuple):
    """operator: =, !=, <, <=, >, >=, like, not like, is null, is not null."""

    column: str
    operator: str
    value: Any = None


def parse_conditions(texts: Sequence[str], columns: Mapping[str, type]) -> tuple[Condition, ...]:
    """All conditions of the texts; each may hold several, joined by `and`. Raises UsageError, naming what is wrong.

    columns: name -> int, float or str.
    """
    conditions = []
    for text in texts:
        at = 0
        while True:
            match = _CONDITION.match(text, at)
            if match is None:
                raise UsageError(f"--where {printable(text)}: expected COLUMN OPERATOR VALUE at {_rest(text, at)}",
                                 hint=EXAMPLES)  # fmt: skip
            conditions.append(_condition(match, text, columns))
            at = match.end()
            if at == len(text):
                break
            if (joined := _AND.match(text, at)) is None:
                raise UsageError(f"--where {printable(text)}: conditions are joined by `and`, not {_rest(text, at)}",
                                 hint=EXAMPLES)  # fmt: skip
            at = joined.end()
    return tuple(conditions)


def sorted_rows(rows: Sequence[dict[str, Any]], orders: Sequence[str], columns: Mapping[str, type]) -> list[dict]:
    """The rows by these columns, the first one first; `-column` is descending, NULL comes last. Raises UsageError."""
    out = list(rows)
    for order in reversed(orders):
        column = order.removeprefix("-")
        _demand_column(column, columns, f"--sort {printable(order)}")
        with_value = [row for row in out if row[column] is not None]
        with_value.sort(key=lambda row: row[column], reverse=order.startswith("-"))
        out = with_value + [row for row in out if row[column] is None]
    return out


def _condition(match: re.Match[str], text: str, columns: Mapping[str, type]) -> Condition:
    column = match["column"].lower()
    _demand_column(column, columns, f"--where {printable(text)}")
    if match["null"]:
        return Condition(column, " ".join(match["null"].lower().split()))
    operator, word = " ".join(match["operator"].lower().split()), match["value"]
    kind = str if operator.endswith("like") else columns[column]
    if word[0] in "'\"":
        value: Any = word[1:-1].replace("''", "'") if word[0] == "'" else word[1:-1]
    else:
        value = word
    if kind is not str:
        try:
            value = float(value) if re.search(r"[.eE]|inf|nan", value) else int(value)
        except ValueError:
            raise UsageError(f"--where {printable(text)}: {column} is a number, {printable(str(value))!r} is none",
                             hint=EXAMPLES) from None  # fmt: skip
    return Condition(column, _SAME.get(operator, operator), value)


def _demand_column(column: str, columns: Mapping[str, type], where: str) -> None:
    if column not in columns:
        near = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"columns: {', '.join(columns)}"
        raise UsageError(f"{where}: there is no column {printable(column)!r}", hint=hint)


def _rest(text: str, at: int) -> str:
    return repr(printable(text[at : at + 40])) if text[at:].strip() else "its end"
