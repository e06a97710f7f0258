"""Tables and views: columns, types, constraints and comments from watcher.store.schema and views."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import CheckConstraint, Table, UniqueConstraint

from docs.from_code.markdown import NotInTheCode, code, generated, table
from watcher.store import schema
from watcher.store.migrate import open_for_writing
from watcher.store.views import MEANINGS, VIEWS

_ABOUT = """
One SQLite file, `ckptwatch.db` by default, or a PostgreSQL database. **The table `results` and the
views are public**: their columns stay, and new ones come at the end. The other tables may be read, but
change between versions.

Reading is safe at any time, even while the daemon runs. Do not write: there is one writer, and commands such as
`ckptwatch queue retry` send their changes to it.

Times are ISO-8601 in UTC, as text. Truth values are 0 and 1. Losses are in nats per token.
"""


def page() -> str:
    """`results` first, then the views, then what is behind them."""
    parts = [generated("Tables and views", "watcher/store", _ABOUT)]
    parts += ["## The table `results`\n", f"{schema.results.comment}\n", _columns(schema.results)]
    parts += ["## Views\n", *(_view(name, names) for name, names in view_columns().items())]
    parts.append("## The other tables\n")
    for name, one in schema.metadata.tables.items():
        if name != "results":
            parts += [f"### `{name}`\n", f"{one.comment}\n", _columns(one)]
    return "\n".join(parts)


def view_columns() -> dict[str, list[str]]:
    """The columns of each view, as a new database has them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        open_for_writing(str(file)).close()
        connection = sqlite3.connect(file)
        try:
            return {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in VIEWS}
        finally:
            connection.close()


def _view(name: str, names: list[str]) -> str:
    results = [column.name for column in schema.results.columns]
    more = [column for column in names if column not in results]
    listed = "the columns of `results`" if set(results) <= set(names) else ", ".join(map(code, names))
    if set(results) <= set(names) and more:
        listed += ", and " + ", ".join(map(code, more))
    return f"### `{name}`\n\n{MEANINGS[name]}\n\nColumns: {listed}.\n"


def _columns(one: Table) -> str:
    if bare := [column.name for column in one.columns if not column.comment]:
        raise NotInTheCode(f"watcher/store/tables: columns of {one.name} without a comment: {', '.join(bare)}")
    rows = []
    for column in one.columns:
        empty = "" if column.nullable else "no"
        rows.append([code(column.name), str(column.type.as_generic()), empty, column.comment])
    out = table(["column", "type", "NULL", "meaning"], rows)
    rules = []
    for constraint in one.constraints:
        if isinstance(constraint, UniqueConstraint):
            rules.append(f"\nUnique: {', '.join(code(column.name) for column in constraint.columns)}.\n")
        elif isinstance(constraint, CheckConstraint):
            rules.append(f"\nCheck: `{constraint.sqltext}`.\n")
    return out + "".join(sorted(rules))  # a set has no order
