"""Times as the database keeps them: ISO-8601 UTC, fixed width, so that text order is time order. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at_s: float) -> str:
    """Seconds since the epoch as `2026-01-31T12:00:00.000000Z`; out-of-range stamps go to the nearest that exists."""
    at_s = max(0.0, min(at_s, 253402300799.0))
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text).timestamp()
