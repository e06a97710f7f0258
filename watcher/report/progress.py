"""How far a piece of long work is, in words and as a share: a worker's, a scan's, a look at data. Pure.

The record is evalcore.messages.Progress as it was read from a file or a line: phase, done, total, unit, of, since, at.
"""

from __future__ import annotations

from typing import Any

from watcher.domain.checkpoint import printable
from watcher.report.columns import duration, size

Row = dict[str, Any]


def share(said: Row) -> float | None:
    """Done of total, 0 to 1; None where the total is not known."""
    done, total = said.get("done"), said.get("total")
    if not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return None
    return max(0.0, min(1.0, done / total))


def left_s(said: Row, now_s: float) -> float | None:
    """The time that is left if what is to come of this phase takes as long as what is done; None where unknown."""
    part, since, at = share(said), said.get("since"), said.get("at")
    if not part or not since or not at:
        return None
    return max(0.0, (at - since) / part * (1 - part) - max(0.0, now_s - at))


def amount(said: Row) -> str:
    """`361/1024 windows`, `1.2 GiB of 3.4 GiB`, `51,234 files`; empty where nothing is counted."""
    done, total, unit = said.get("done") or 0, said.get("total") or 0, said.get("unit") or ""
    if not unit or not (done or total):
        return ""
    if unit == "bytes":
        return f"{size(done)} of {size(total)}" if total else size(done)
    if unit == "windows":
        return f"{done}/{total} windows"
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


def words(said: Row, now_s: float | None = None) -> str:
    """`tokenising val: 1.2 GiB of 3.4 GiB`; with now_s also what is left, once that is worth telling."""
    what = f"{said.get('phase')} {said.get('of') or ''}".strip()
    left = left_s(said, now_s) if now_s is not None else None
    parts = [part for part in (amount(said), f"{duration(left)} left" if left and left >= 1 else "") if part]
    return printable(f"{what}: {', '.join(parts)}" if parts else what)


def bar(part: float | None, width: int = 20) -> str:
    """`[#####.....]`; empty where nothing is known."""
    if part is None:
        return ""
    full = round(max(0.0, min(1.0, part)) * width)
    return "[" + "#" * full + "." * (width - full) + "]"
