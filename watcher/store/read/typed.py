"""Rows of `results` whose number columns hold numbers: SQLite keeps text in a REAL column where a user put it.

Never repairs a row: a value edited by hand is corrected by hand.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Float, Integer, RowMapping

from watcher.errors import StoreRefused
from watcher.store.engine import Store
from watcher.store.schema import results

NUMBERS = dict.fromkeys(column.name for column in results.columns if isinstance(column.type, (Float, Integer)))


def result_dicts(store: Store, rows: Iterable[RowMapping]) -> list[dict[str, Any]]:
    """The rows as dicts. Raises StoreRefused, with row and column, where a number column holds something else."""
    checked, file = [dict(row) for row in rows], shlex.quote(str(store.path or store.url))
    for row in checked:
        for name in NUMBERS:
            if not isinstance(row[name], (float, int, type(None))):
                kind = "text" if isinstance(row[name], str) else type(row[name]).__name__
                raise StoreRefused(
                    f"results.{name} of the row with id {row['id']} holds the {kind} {row[name]!r:.60}, not a number",
                    hint=f'sqlite3 {file} "UPDATE results SET {name} = NUMBER WHERE id = {row["id"]}"',
                )
    return checked


def lenient(row: Any) -> dict[str, Any]:
    """A row of any query as a dict, for pages and sinks: what is no number in a number's column counts as not known.

    row: a mapping of column names. A key is left as it is: that of a launch is text.
    """
    return {
        name: None if name in NUMBERS and name != "id" and isinstance(value, (str, bytes)) else value
        for name, value in row.items()
    }


def lenient_column(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """The same for a whole column at once."""
    if name not in NUMBERS or not {str, bytes} & set(map(type, values)):
        return values
    return tuple(None if isinstance(value, (str, bytes)) else value for value in values)
