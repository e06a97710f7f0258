"""The folder of one sink or alert, through which the daemon and the delivery process exchange request and result."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalcore.launch_folder import write_atomically
from watcher.sinks.protocol import Row

REQUEST, RESULT, LOG = "request.json", "result.json", "deliver.log"


@dataclass(frozen=True)
class Request:
    """sink or alert: the section. rows: (export id, subject). unsure: some of them may have been sent already."""

    name: str
    rows: list[tuple[int, Row]]
    unsure: bool
    sink: dict[str, Any] | None = None
    alert: dict[str, Any] | None = None


@dataclass
class Result:
    """done: ids of exports that were sent. failed: ids, all for the one error.

    busy: another delivery to this sink is running. torn: the file's last line had been cut short and was removed; the
    rows sent last must be compared with the file again.
    """

    done: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    error: str = ""
    busy: bool = False
    torn: bool = False


@contextmanager
def exclusive_delivery(folder: Path) -> Iterator[None]:
    """One delivery to a sink at a time, whoever starts it. Raises BlockingIOError."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def read_request(folder: Path) -> Request:
    content = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    return Request(**{**content, "rows": [(int(number), row) for number, row in content["rows"]]})


def write_request(folder: Path, request: Request) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(folder / REQUEST, json.dumps(asdict(request)))


def read_result(folder: Path) -> Result | None:
    """None where no result was written, or none that can be understood."""
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        done, failed = [int(number) for number in content["done"]], [int(number) for number in content["failed"]]
        return Result(done, failed, str(content["error"]), bool(content["busy"]), bool(content.get("torn")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(folder: Path, result: Result) -> None:
    write_atomically(folder / RESULT, json.dumps(asdict(result)))
