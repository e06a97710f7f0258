"""Progress reports of this process: at most one a second, and only while work advances.

Owns the throttle, and the evidence of work during calls that report nothing themselves. Never reports for a worker that
merely waits: the daemon ends a launch that is silent for `stall_s`. The destination is the caller's: a launch's
progress.json, a line on stdout.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evalcore.message_json import to_json

INTERVAL_S = 1.0
_MOVED_BYTES = 1 << 16
_MOVED_CPU_S = 0.05


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is: for `status`, the page, a terminal's line, and the stall clock.

    done of total in `unit` (windows | bytes | files); total 0: it is not known. of: the eval set or run that it works
    on. attempt 0: it is no job's. since, at: Unix seconds, when this phase began and when this report was made.
    """

    phase: str
    done: int = 0
    total: int = 0
    unit: str = ""
    of: str = ""
    attempt: int = 0
    since: float = 0.0
    at: float = 0.0


def write_progress(path: Path, now: Progress) -> None:
    """Rewrite a progress file. No fsync, unlike an outcome: losing a report costs nothing, writing one little."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(to_json(now), encoding="utf-8", errors="surrogateescape")
    temporary.replace(path)


class ProgressReporter:
    """publish: called with each report that passes the throttle; None makes a silent reporter."""

    def __init__(self, publish: Callable[[Progress], None] | None) -> None:
        self._publish = publish
        self._lock = threading.Lock()
        self._last = 0.0
        self._now = Progress("starting")

    def report(
        self,
        phase: str,
        attempt: int = 0,
        eval_set: str = "",
        done: int = 0,
        total: int = 0,
        unit: str = "",
        force: bool = False,
    ) -> None:
        """Take a new state; published at most once a second unless forced or the phase is new."""
        self._update(Progress(phase, done, total, unit, eval_set, attempt, at=time.time()), force)

    @contextlib.contextmanager
    def while_working(self, phase: str, attempt: int = 0, eval_set: str = "") -> Iterator[None]:
        """Publish from a thread for as long as this process reads bytes or uses the CPU.

        A state taken by `report` meanwhile stays: the thread only renews its time.
        """
        self.report(phase, attempt, eval_set, force=True)
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        if self._publish is not None:
            thread.start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        before = _used()
        while not over.wait(INTERVAL_S):
            after = _used()
            if after[0] - before[0] > _MOVED_CPU_S or after[1] - before[1] > _MOVED_BYTES:
                self._update(replace(self._now, at=time.time()), force=False)
            before = after

    def _update(self, now: Progress, force: bool) -> None:
        with self._lock:
            last = self._now
            same = (now.phase, now.of, now.attempt) == (last.phase, last.of, last.attempt)
            self._now = now = replace(now, since=last.since if same else now.at)
            force = force or now.phase != last.phase
            if self._publish is not None and (force or time.monotonic() - self._last >= INTERVAL_S):
                self._last = time.monotonic()
                self._publish(now)


def _used() -> tuple[float, int]:
    """(CPU seconds, bytes read) of this process so far."""
    times = os.times()
    try:
        counters = Path("/proc/self/io").read_text()
        read = int(counters.split("rchar:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        read = 0  # not on every kernel: CPU time is the only evidence then
    return times.user + times.system, read
