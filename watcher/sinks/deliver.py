"""One delivery, in a process of its own: `python -m watcher.sinks.deliver FOLDER`.

Reads FOLDER/request.json, sends, writes FOLDER/result.json. Knows nothing of the database: the daemon put the rows into
the request and applies the result, so there is one writer at any time. Heavy libraries come and go with this process.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalcore.launch_folder import write_atomically
from watcher.errors import CkptwatchError
from watcher.settings.schema import AlertSettings, SinkSettings
from watcher.sinks.protocol import Row, SinkError
from watcher.sinks.registry import make_sink

REQUEST, RESULT, LOG = "request.json", "result.json", "deliver.log"


@dataclass(frozen=True)
class Request:
    """sink or alert: the section. rows: (export id, subject). unsure: some of them may be there already."""

    name: str
    rows: list[tuple[int, Row]]
    unsure: bool
    sink: dict[str, Any] | None = None
    alert: dict[str, Any] | None = None


@dataclass
class Result:
    """done: ids of exports that the sink has now. failed: ids, all for the one error. busy: another one was at it."""

    done: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    error: str = ""
    busy: bool = False


def deliver(folder: Path, request: Request) -> Result:
    """Send the rows that the sink does not have yet."""
    ids = [export_id for export_id, _ in request.rows]
    try:
        with held(folder):
            if request.alert is not None:
                return _tell(folder, request)
            section = SinkSettings.model_validate(request.sink)
            send(make_sink(request.name, section, folder), [row for _, row in request.rows], unsure=request.unsure)
            return Result(done=ids)
    except BlockingIOError:
        return Result(failed=ids, error="an earlier delivery is still at work", busy=True)
    except CkptwatchError as error:
        return Result(failed=ids, error=f"{error.cause}; {error.hint}" if error.hint else error.cause)
    except Exception as error:  # whatever a tracker's library raises: kept, shown, tried again
        return Result(failed=ids, error=f"{type(error).__name__}: {error}")


def send(sink: Any, rows: Sequence[Row], *, unsure: bool) -> int:
    """Send rows; where unsure, only those that the sink does not have. Returns how many were sent."""
    try:
        there = sink.already(rows) if unsure else set()
        missing = [row for row in rows if row["id"] not in there]
        if missing:
            sink.send(missing)
        return len(missing)
    finally:
        sink.close()


@contextmanager
def held(folder: Path):
    """One delivery to a sink at a time, whoever starts it. Raises BlockingIOError."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _tell(folder: Path, request: Request) -> Result:
    """Alerts one by one: what was told is told, even if the next one fails."""
    from watcher.alerts.channels import tell

    result, section = Result(), AlertSettings.model_validate(request.alert)
    for export_id, event in request.rows:
        try:
            tell(section, event, folder)
            result.done.append(export_id)
        except SinkError as error:
            result.failed.append(export_id)
            result.error = error.cause
    return result


def read_request(folder: Path) -> Request:
    said = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    return Request(**{**said, "rows": [(int(number), row) for number, row in said["rows"]]})


def write_request(folder: Path, request: Request) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(folder / REQUEST, json.dumps(asdict(request)))


def read_result(folder: Path) -> Result | None:
    """None where no result was written, or none that can be understood."""
    try:
        said = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        done, failed = [int(each) for each in said["done"]], [int(each) for each in said["failed"]]
        return Result(done, failed, str(said["error"]), bool(said["busy"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    os.nice(5)
    result = deliver(folder, read_request(folder))
    write_atomically(folder / RESULT, json.dumps(asdict(result)))
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
