"""The process's signals as facts: how often it was asked to stop, and whether to reload. Decides nothing."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from watcher.state.wake import Wake


@dataclass
class Signals:
    """SIGTERM and SIGINT count in `stops`, SIGHUP sets `reload`; each of them, and SIGCHLD, sets `wake`."""

    wake: Wake = field(default_factory=Wake)
    stops: int = 0
    interrupted: bool = False  # by Ctrl-C
    reload: bool = False

    def install(self) -> None:
        """Must be called from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        signal.signal(signal.SIGCHLD, lambda *_: self.wake.set())
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    @staticmethod
    def ignore_stops() -> None:
        """The process ends by itself: Python restores the default handlers meanwhile, and a stop would kill it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def exit_if_stopped(self) -> None:
        """Raise SystemExit: for long work that nothing depends on yet."""
        if self.stops:
            raise SystemExit(130 if self.interrupted else 0)

    def _stop(self, number: int, _frame: object) -> None:
        self.stops += 1
        if self.stops > 1:  # more of them change nothing, and a flood would exhaust the stack of handlers
            self.ignore_stops()
        self.interrupted = self.interrupted or number == signal.SIGINT
        self.wake.set()

    def _reload(self, _number: int, _frame: object) -> None:
        self.reload = True
        self.wake.set()
