"""Moving a whole history from one database to another: SQLite's file to a PostgreSQL server, or back.

Keeps every id. What was running where it comes from is queued where it goes: the daemon that ran it stays behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text

from watcher.errors import StoreRefused
from watcher.store.engine import Store, shown_url
from watcher.store.schema import attempts, jobs, launches, metadata

ROWS_AT_ONCE = 1000


def transfer(source: Store, target: Store, now: str) -> dict[str, int]:
    """Copy every table, in one transaction of the target. Raises StoreRefused where the target holds anything.

    Returns table -> number of rows, as counted in the target.
    """
    with source.read() as reading, target.write(alone="migrate") as writing:
        for table in metadata.sorted_tables:
            if writing.execute(select(table).limit(1)).first() is not None:
                raise StoreRefused(
                    f"the database {shown_url(target.url)} is not empty: it holds {table.name}",
                    hint="copy into a database of its own; nothing was changed",
                )
        for table in metadata.sorted_tables:
            for batch in _batches(reading, table):
                writing.execute(insert(table), [_at_rest(table, row, now) for row in batch])
            _go_on_counting(writing, table)
        counted = {}
        for table in metadata.sorted_tables:
            counted[table.name] = _count(writing, table)
            if counted[table.name] != (at_source := _count(reading, table)):
                raise StoreRefused(
                    f"{table.name}: {at_source} rows at the source, {counted[table.name]} arrived",
                    hint="is a daemon writing to it? Stop it and try again; nothing was changed",
                )
        return counted


def _batches(reading: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    rows = reading.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    while batch := rows.fetchmany(ROWS_AT_ONCE):
        yield [dict(row) for row in batch]


def _at_rest(table: Table, row: dict[str, Any], now: str) -> dict[str, Any]:
    """The row with the states of a database that no daemon uses."""
    if table is jobs and row["state"] == "running":
        return {**row, "state": "queued", "token": None, "launch_id": None}
    if table is attempts and row["outcome"] is None:
        return {**row, "outcome": "orphaned", "finished_at": now, "reason": "the history was moved"}
    if table is launches and row["finished_at"] is None:
        return {**row, "finished_at": now, "reason": "the history was moved"}
    return row


def _go_on_counting(writing: Connection, table: Table) -> None:
    """PostgreSQL counts ids beside the table: the next one must come after those that were copied."""
    if writing.dialect.name == "postgresql" and "id" in table.columns and table.c.id.type.python_type is int:
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        writing.execute(text(f"SELECT setval({sequence}, (SELECT coalesce(max(id), 0) + 1 FROM {table.name}), false)"))


def _count(tx: Connection, table: Table) -> int:
    return tx.execute(select(func.count()).select_from(table)).scalar_one()
