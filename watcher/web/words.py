"""How numbers, times and names are written on a page. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from watcher.domain.checkpoint import printable
from watcher.domain.timestamps import seconds

NONE = "–"


def number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return NONE
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3e}"


def count(value: float | None) -> str:
    """An integer with thin groups: 1 234 567."""
    return NONE if value is None else f"{round(value):,}".replace(",", "\u202f")


def short_count(value: float | None) -> str:
    """124.4M, 1.2B: for parameters and tokens."""
    if value is None:
        return NONE
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 100 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def size(value: float | None) -> str:
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(value: float | None) -> str:
    """`4 ms`, `0.8 s`, `12 s`, `3 min`, `2.5 h`, `4 d`."""
    if value is None:
        return NONE
    if 0 < value < 0.0995:
        return f"{value * 1000:.2g} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if value < limit:
            shown = value / divisor
            return f"{shown:.1f} {unit}" if unit == "h" and shown < 10 else f"{shown:.0f} {unit}"
    return f"{value / 86400:.0f} d"


def ago(at: str | None, now_s: float) -> str:
    if not at:
        return NONE
    age_s = now_s - seconds(at)
    return "just now" if abs(age_s) < 2 else f"{duration(age_s)} ago" if age_s > 0 else f"in {duration(-age_s)}"


def clock(at: str | None) -> str:
    """`2026-01-31 12:00:00` in UTC."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S}" if at else NONE


def name(text: Any) -> str:
    """A path or name from outside: control characters and bidi marks made visible (escaping of HTML comes after)."""
    return NONE if text is None else printable(str(text))


def short_digest(digest: str | None) -> str:
    return NONE if not digest else digest.removeprefix("sha256:")[:12]
