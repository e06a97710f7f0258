"""Isolates faults: an unforeseen exception pauses the part that raised it, and nothing else.

The expected errors (CkptwatchError: database, lock, settings) and SystemExit pass through. Everything else is logged
with its traceback, shown by `status`, and the part is tried again after a growing pause.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from watcher.domain.health import Fault
from watcher.domain.job import backoff_s
from watcher.errors import CkptwatchError
from watcher.log import Log

FIRST_PAUSE_S, PAUSE_MAX_S = 2.0, 300.0
SHOWN_S = 3600.0  # a fault that is neither repeated nor healed leaves `status` this long after its retry was due


def first_line(error: Exception) -> str:
    """Type and message; a database error's further lines quote the whole statement."""
    return traceback.format_exception_only(error)[-1].strip().partition("\n")[0][:300]


@dataclass
class Isolation:
    """part -> its last fault. Names of parts are for people: "run gpt", "launch 2026...", "sink csv"."""

    log: Log
    _faults: dict[str, Fault] = field(default_factory=dict)

    def run(self, part: str, now_s: float, step: Callable[[], None]) -> bool:
        """Do the part's step, unless its pause is not over. True: it was done without a fault. now_s: monotonic."""
        fault = self._faults.get(part)
        if fault is not None and now_s < fault.retry_s:
            return False
        try:
            step()
        except CkptwatchError:
            raise
        except Exception as error:
            self.note(part, error, now_s)
            return False
        if fault is not None:
            del self._faults[part]
            self.log.event("healed", reason=f"{part} works again")
        return True

    def note(self, part: str, error: Exception, now_s: float) -> None:
        """Log a fault that was handled where it occurred, and show it in `status`."""
        before = self._faults.get(part)
        failures = before.failures + 1 if before is not None else 1
        pause_s = min(backoff_s(FIRST_PAUSE_S, failures, 0.5), PAUSE_MAX_S)
        summary = first_line(error)
        self._faults[part] = Fault(part, summary, failures, now_s + pause_s)
        trace = "".join(traceback.format_exception(error))
        self.log.event("fault", part=part, error=summary, pause_s=pause_s)
        self.log.trace(trace)

    def forget(self, part: str) -> None:
        """The part no longer exists."""
        with suppress(KeyError):
            del self._faults[part]

    def faults(self, now_s: float) -> list[Fault]:
        return [fault for fault in self._faults.values() if now_s < fault.retry_s + SHOWN_S]
