"""progress.json: where the worker is, rewritten about once a second, and only when something really moved.

Owns the throttle and the proof of work while a call gives no news. Never beats for a worker that merely waits: the
daemon's stall clock runs on these beats.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from evalcore.contract import Progress, to_json

BEAT_S = 1.0
_MOVED_BYTES = 1 << 16
_MOVED_CPU_S = 0.05


class Pulse:
    """Rank 0's progress; `path` None makes a silent one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._last = 0.0
        self._now = Progress(0, "", 0, 0, "starting", 0.0)

    def beat(
        self, phase: str, attempt: int = 0, eval_set: str = "", done: int = 0, total: int = 0, force: bool = False
    ) -> None:
        """Say where we are; written at most once a second unless forced or the phase is new."""
        with self._lock:
            force = force or phase != self._now.phase
            self._now = Progress(attempt, eval_set, done, total, phase, time.time())
            if self._path is not None and (force or time.monotonic() - self._last >= BEAT_S):
                self._last = time.monotonic()
                self._write()

    @contextlib.contextmanager
    def while_working(self, phase: str, attempt: int = 0, eval_set: str = "") -> Iterator[None]:
        """Beat from a thread for as long as this process reads bytes or uses the CPU."""
        self.beat(phase, attempt, eval_set, force=True)
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over, phase, attempt, eval_set), daemon=True)
        if self._path is not None:
            thread.start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, over: threading.Event, phase: str, attempt: int, eval_set: str) -> None:
        before = _used()
        while not over.wait(BEAT_S):
            after = _used()
            if after[0] - before[0] > _MOVED_CPU_S or after[1] - before[1] > _MOVED_BYTES:
                self.beat(phase, attempt, eval_set, self._now.windows_done, self._now.windows_total)
            before = after

    def _write(self) -> None:
        # no fsync, unlike an outcome: a lost beat costs nothing, and a beat a second must cost nothing either
        assert self._path is not None
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.write_text(to_json(self._now), encoding="utf-8", errors="surrogateescape")
        temporary.replace(self._path)


def _used() -> tuple[float, int]:
    """(CPU seconds, bytes read) of this process so far."""
    times = os.times()
    try:
        said = Path("/proc/self/io").read_text()
        read = int(said.split("rchar:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        read = 0  # not on every kernel: the CPU alone has to tell then
    return times.user + times.system, read
