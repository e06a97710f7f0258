"""Rows 221 to 240: launch and settings. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {}
