"""Starts delivery processes and collects their results: one per sink and batch, bounded in number and in time.

Never waits, never opens the database. A request file without a result means that a delivery was interrupted: the next
one compares its rows with what the sink has.
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

from watcher.sinks.delivery_folder import LOG, REQUEST, RESULT, Request, Result, read_result, write_request

DELIVERIES_MAX = 2
TIMEOUT_S = 300.0
LOG_MAX_BYTES = 1 << 20
#: Variables of an outer launcher, by which a tracker's library would take the delivery for a rank of the training.
_LAUNCHER_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NOTIFY_SOCKET",
    "WANDB_RUN_ID",
)


@dataclass
class _Running:
    process: subprocess.Popen
    request: Request
    deadline_s: float


@dataclass
class DeliveryProcesses:
    """folder: holds one folder for each sink. module: what a delivery process runs, with its folder as argument."""

    folder: Path
    module: str
    timeout_s: float = TIMEOUT_S
    _running: dict[str, _Running] = field(default_factory=dict)

    def leftovers(self) -> list[tuple[str, Result]]:
        """At the start: results that an earlier daemon did not apply."""
        results = []
        for path in sorted(self.folder.glob(f"*/{RESULT}")) if self.folder.exists() else ():
            result = read_result(path.parent)
            if result is not None:
                results.append((path.parent.name, result))
        return results

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def free(self, sink: str) -> bool:
        """Whether a delivery to this sink can start."""
        return sink not in self._running and len(self._running) < DELIVERIES_MAX

    def start(
        self, name: str, rows: Sequence[tuple[int, dict[str, Any]]], now_s: float, *, unsure: bool, **section: Any
    ) -> None:
        """section: sink=... or alert=..., as plain values. Raises OSError."""
        folder = self.folder / name
        interrupted = (folder / REQUEST).exists()
        (folder / RESULT).unlink(missing_ok=True)
        request = Request(name, list(rows), unsure or interrupted, **section)
        write_request(folder, request)
        log = folder / LOG
        mode = "wb" if log.exists() and log.stat().st_size > LOG_MAX_BYTES else "ab"
        environment = {key: value for key, value in os.environ.items() if key not in _LAUNCHER_VARIABLES}
        with open(log, mode) as output:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, os.fspath(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                close_fds=True,
                start_new_session=True,
            )
        self._running[name] = _Running(process, request, now_s + self.timeout_s)

    def collect(self, now_s: float) -> list[tuple[str, Result]]:
        """Results of deliveries that have ended. The result file decides; without one, every row has failed."""
        results = []
        for name, delivery in list(self._running.items()):
            overdue = now_s > delivery.deadline_s
            alive = delivery.process.poll() is None
            if alive and not overdue:
                continue
            if alive:
                _kill(delivery.process)
            result = read_result(self.folder / name)
            if result is None:
                why = f"it took longer than {self.timeout_s:.0f} s" if overdue else self._last_line(name)
                result = Result(failed=[export_id for export_id, _ in delivery.request.rows], error=why)
            del self._running[name]
            results.append((name, result))
        return results

    def applied(self, name: str, result: Result) -> None:
        """The database is updated: remove the files. After a failure the request stays: some rows may be sent."""
        folder = self.folder / name
        (folder / RESULT).unlink(missing_ok=True)
        if not result.failed:
            (folder / REQUEST).unlink(missing_ok=True)

    def stop(self) -> None:
        """End running deliveries; their rows are sent again, after a comparison with what the sink has."""
        for delivery in self._running.values():
            if delivery.process.poll() is None:
                _kill(delivery.process)
        self._running.clear()

    def _last_line(self, name: str) -> str:
        try:
            lines = (self.folder / name / LOG).read_text(errors="backslashreplace").strip().splitlines()
        except OSError:
            lines = []
        return (
            lines[-1][:500] if lines else f"the delivery process ended without a result; see {self.folder / name / LOG}"
        )


def _kill(process: subprocess.Popen) -> None:
    """The delivery and whatever it started: all of its session, whatever groups they have put themselves into."""
    for pid in [process.pid, *_session(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    process.wait()


def _session(leader: int) -> list[int]:
    members = []
    for name in os.listdir("/proc"):
        try:
            stat = Path(f"/proc/{name}/stat").read_text(errors="replace") if name.isdigit() else ""
        except OSError:
            continue  # it ended while we looked
        if stat and int(stat.rpartition(")")[2].split()[3]) == leader:
            members.append(int(name))
    return members
