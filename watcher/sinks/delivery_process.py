"""Starts deliveries and brings their results home: a process per sink and batch, bounded in number and in time.

Never waits, never opens the database. A request file that lies there without a result tells of a delivery that was cut
short: the next one asks the sink what it has.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watcher.sinks.deliver import LOG, REQUEST, RESULT, Request, Result, read_result, write_request

AT_ONCE = 2
TIMEOUT_S = 300.0
LOG_MAX_BYTES = 1 << 20
#: An outer launcher's words would make a tracker's library think that it is a rank of the training.
_FOREIGN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NOTIFY_SOCKET", "WANDB_RUN_ID")


@dataclass
class _Under:
    process: subprocess.Popen
    request: Request
    deadline_s: float


@dataclass
class DeliveryProcesses:
    """folder: one folder for each sink below it."""

    folder: Path
    timeout_s: float = TIMEOUT_S
    _way: dict[str, _Under] = field(default_factory=dict)

    def leftovers(self) -> list[tuple[str, Result]]:
        """At the start: results that an earlier daemon did not live to apply."""
        found = []
        for path in sorted(self.folder.glob(f"*/{RESULT}")) if self.folder.exists() else ():
            result = read_result(path.parent)
            if result is not None:
                found.append((path.parent.name, result))
        return found

    @property
    def busy(self) -> bool:
        return bool(self._way)

    def free(self, sink: str) -> bool:
        """May a delivery to this sink begin?"""
        return sink not in self._way and len(self._way) < AT_ONCE

    def start(
        self, name: str, rows: Sequence[tuple[int, dict[str, Any]]], now_s: float, *, unsure: bool, **section: Any
    ) -> None:
        """section: sink=... or alert=..., as plain values. Raises OSError."""
        folder = self.folder / name
        cut_short = (folder / REQUEST).exists()
        (folder / RESULT).unlink(missing_ok=True)
        request = Request(name, list(rows), unsure or cut_short, **section)
        write_request(folder, request)
        log = folder / LOG
        mode = "wb" if log.exists() and log.stat().st_size > LOG_MAX_BYTES else "ab"
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        with open(log, mode) as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "watcher.sinks.deliver", os.fspath(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                close_fds=True,
                start_new_session=True,
            )
        self._way[name] = _Under(process, request, now_s + self.timeout_s)

    def arrived(self, now_s: float) -> list[tuple[str, Result]]:
        """What has ended since. The result file is the truth; without one, every row has failed."""
        home = []
        for name, under in list(self._way.items()):
            overdue = now_s > under.deadline_s
            alive = under.process.poll() is None
            if alive and not overdue:
                continue
            if alive:
                _kill(under.process)
            result = read_result(self.folder / name)
            if result is None:
                why = f"it took longer than {self.timeout_s:.0f} s" if overdue else self._last_line(name)
                result = Result(failed=[export_id for export_id, _ in under.request.rows], error=why)
            del self._way[name]
            home.append((name, result))
        return home

    def applied(self, name: str, result: Result) -> None:
        """The database knows: the files may go. After a failure the request stays, as a sign that some were sent."""
        folder = self.folder / name
        (folder / RESULT).unlink(missing_ok=True)
        if not result.failed:
            (folder / REQUEST).unlink(missing_ok=True)

    def stop(self) -> None:
        """End what is under way; it is sent again, after asking the sink what it has."""
        for under in self._way.values():
            if under.process.poll() is None:
                _kill(under.process)
        self._way.clear()

    def _last_line(self, name: str) -> str:
        try:
            lines = (self.folder / name / LOG).read_text(errors="backslashreplace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:500] if lines else "the delivery ended without a word"


def _kill(process: subprocess.Popen) -> None:
    """The delivery and whatever it started: all of its session, whatever groups they have put themselves into."""
    for pid in [process.pid, *_session(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    process.wait()


def _session(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            stat = Path(f"/proc/{name}/stat").read_text(errors="replace") if name.isdigit() else ""
        except OSError:
            continue  # it ended while we looked
        if stat and int(stat.rpartition(")")[2].split()[3]) == leader:
            found.append(int(name))
    return found
