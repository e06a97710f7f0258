"""Progress of long work (a worker, a scan, hashing data) in words and as a fraction. Pure.

The record is evalcore.progress.Progress as it was read from a file or a line: phase, done, total, unit, of, since, at.
"""

from __future__ import annotations

from typing import Any

from watcher.domain.checkpoint import printable
from watcher.report.format import duration, size

Row = dict[str, Any]


def share(record: Row) -> float | None:
    """Done of total, 0 to 1; None where the total is not known."""
    done, total = record.get("done"), record.get("total")
    if not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return None
    return max(0.0, min(1.0, done / total))


def remaining_s(record: Row, now_s: float) -> float | None:
    """Remaining seconds of this phase if the rest takes as long per unit as what is done; None where unknown."""
    part, since, at = share(record), record.get("since"), record.get("at")
    if not part or not since or not at:
        return None
    return max(0.0, (at - since) / part * (1 - part) - max(0.0, now_s - at))


def amount(record: Row) -> str:
    """`361/1,024 windows`, `1.2 GiB of 3.4 GiB`, `51,234 files`; empty where nothing is counted."""
    done, total, unit = record.get("done") or 0, record.get("total") or 0, record.get("unit") or ""
    if not unit or not (done or total):
        return ""
    if unit == "bytes":
        return f"{size(done)} of {size(total)}" if total else size(done)
    if unit == "windows":
        return f"{done:,}/{total:,} windows"
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


def words(record: Row, now_s: float | None = None) -> str:
    """`tokenising val: 1.2 GiB of 3.4 GiB`; with now_s also the remaining time, from one second on."""
    what = f"{record.get('phase')} {record.get('of') or ''}".strip()
    left_s = remaining_s(record, now_s) if now_s is not None else None
    parts = [
        part for part in (amount(record), f"{duration(round(left_s))} left" if left_s and left_s >= 1 else "") if part
    ]
    return printable(f"{what}: {', '.join(parts)}" if parts else what)


def bar(part: float | None, width: int = 20) -> str:
    """`[#####.....]`; empty where the share is unknown."""
    if part is None:
        return ""
    full = round(max(0.0, min(1.0, part)) * width)
    return "[" + "#" * full + "." * (width - full) + "]"
