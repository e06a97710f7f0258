"""Rows 241 to 260: reports and sinks. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {}
