"""How numbers, sizes, times and names are written for people, and JSON values and CSV cells for programs. Pure.

The one formatter of tables, pages, log and status. It reads no clock: the present time is an argument.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any
from unicodedata import combining, east_asian_width

from watcher.domain.checkpoint import printable
from watcher.domain.timestamps import seconds

NONE = "-"
TEXT_MAX = 300  # characters of one text in a table or on a page: a tensor's name can be megabytes long
JSON_TEXT_MAX = 20_000  # of one text in a JSON answer of the page
#: What spreadsheets take for a formula or a command at the beginning of a cell (OWASP, "CSV Injection").
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
_PLAIN_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def text(value: Any, limit: int = TEXT_MAX) -> str:
    """A name, path or reason on one line: control characters and bidi marks escaped, at most `limit` characters."""
    if value is None:
        return NONE
    whole = value if isinstance(value, str) else str(value)
    if len(whole) <= limit:
        return printable(whole)
    return f"{printable(whole[:limit])}… ({len(whole) - limit:,} more characters)"


def cell_width(words: str) -> int:
    """Columns of a terminal that a text takes: two for a wide East Asian character, none for a combining one."""
    if words.isascii():
        return len(words)
    return sum(2 if east_asian_width(sign) in "WF" else int(not combining(sign)) for sign in words)


def wrapped(words: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns: broken at spaces, within a word only where that is longer."""
    lines = [""]
    for word in words.split(" ") if cell_width(words) > width else [words]:
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_width(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for sign in word:
            if cell_width(lines[-1] + sign) > width and lines[-1]:
                lines.append("")
            lines[-1] += sign
    return lines


def integer(value: float | None) -> str:
    """`29,000`."""
    return NONE if value is None else f"{round(value):,}"


def short_integer(value: float | None) -> str:
    """`124M`, `1.2B`: parameters and tokens."""
    if value is None:
        return NONE
    for unit_size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit_size:
            return (
                f"{value / unit_size:.3g}{unit}" if abs(value) < 100 * unit_size else f"{value / unit_size:.0f}{unit}"
            )
    return f"{value:.0f}"


def decimal(value: float | None, digits: int = 4) -> str:
    """Fixed digits; a power of ten from ten million on."""
    if value is None:
        return NONE
    return f"{_zero_unsigned(value, digits):.{digits}f}" if abs(value) < 1e7 else f"{value:.3e}"


def signed(value: float | None, digits: int = 4) -> str:
    """`+0.0123`."""
    return NONE if value is None else f"{_zero_unsigned(value, digits):+.{digits}f}"


def _zero_unsigned(value: float, digits: int) -> float:
    """0.0 for what these digits show as zero, so that none is written as `-0.0000`."""
    return 0.0 if round(value, digits) == 0 else value


def p_value(value: float | None) -> str:
    """`0.042`, `<0.001`."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def size(count_bytes: float | None) -> str:
    """Bytes with a binary unit."""
    if count_bytes is None:
        return NONE
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(value_s: float | None) -> str:
    """`4 ms`, `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if value_s is None:
        return NONE
    value_s = max(0.0, value_s)
    if 0 < value_s < 0.0995:
        return f"{value_s * 1000:.2g} ms"
    if value_s < 9.95:
        return f"{value_s:.1f} s".replace(".0 s", " s")
    whole = round(value_s)
    for unit_s, name, smaller_s, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def ago(at: str | None, now_s: float) -> str:
    """An ISO time relative to now, in its largest unit: `just now`, `4 min ago`, `in 30 s`."""
    if not at:
        return NONE
    age_s = now_s - seconds(at)
    if abs(age_s) < 2:
        return "just now"
    amount = " ".join(duration(round(abs(age_s))).split()[:2])
    return f"{amount} ago" if age_s > 0 else f"in {amount}"


def clock(at: str | None) -> str:
    """`2026-01-31 12:00:00`, UTC."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S}" if at else NONE


def short_digest(digest: str | None) -> str:
    return NONE if not digest else digest.removeprefix("sha256:")[:12]


def strict(value: Any, text_max: int | None = None) -> Any:
    """The value as strict JSON has it: numbers that are not finite, and bytes, become null; long texts are cut."""
    if isinstance(value, dict):
        return {str(key): strict(item, text_max) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item, text_max) for item in value]
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if text_max is not None and isinstance(value, str) and len(value) > text_max:
        return f"{value[:text_max]}… ({len(value) - text_max:,} more characters)"
    return value


def json_text(value: Any, *, indent: int | None = None, text_max: int | None = None) -> str:
    """Strict JSON: `null` where a number is not finite."""
    return json.dumps(strict(value, text_max), ensure_ascii=False, allow_nan=False, default=str, indent=indent)


def csv_cell(value: Any) -> Any:
    """A cell that spreadsheets do not evaluate and terminals do not interpret. Numbers are not changed.

    A text that begins like a formula gets an apostrophe before it; control characters are written as escapes, so a
    row is always one line.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not isinstance(value, str):
        return value
    risky = value.startswith(_FORMULA_SIGNS) and not _PLAIN_NUMBER.fullmatch(value)
    return ("'" if risky else "") + printable(value)
