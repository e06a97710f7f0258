"""Alembic's environment and versions; inside the wheel this is the package `watcher.migrations`."""
