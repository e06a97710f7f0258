"""Alembic's entry: runs the versions on the connection that `watcher.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from watcher.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
