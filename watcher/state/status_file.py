"""The daemon's status file (health.json): its last report, for `status`, the page and other readers.

Only the format, the atomic write and the tolerant reading; who gathers the facts is watcher/pipeline/facts.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalcore.progress import Progress

OBJECT_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class StatusReport:
    """All of health.json. Times are ISO-8601 UTC; reasons are sentences; queue: jobs by state, without samples."""

    pid: int
    boot_id: str
    started_at: str
    at: str
    database: str
    state: str
    reasons: Sequence[str]
    work: Sequence[Progress] = ()
    runs: Sequence[dict[str, Any]] = ()
    queue: dict[str, int] = field(default_factory=dict)
    launches: Sequence[dict[str, Any]] = ()


def read_object(file: Path) -> dict[str, Any] | None:
    """A small JSON object that another process rewrites; None where it is absent, incomplete or no object."""
    try:
        with open(file, "rb") as opened:
            value = json.loads(opened.read(OBJECT_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_status(file: Path, report: StatusReport) -> None:
    """Replace the file. A full disk is not an error here: the log and systemd's status line report it."""
    from evalcore.launch_folder import write_atomically  # readers, such as `status`, do without the messages

    try:
        write_atomically(file, json.dumps(asdict(report), indent=1), durable=False)
    except OSError:
        pass
