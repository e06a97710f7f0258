"""Changes of the settings of a running daemon: build all that follows from them, and only then hand it over.

While the database is locked the old parts continue and the change is retried; invalid settings are refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from watcher.errors import CkptwatchError, StoreUnavailable
from watcher.pipeline import watching
from watcher.pipeline.watching import Tools, Watching
from watcher.settings.schema import Settings

RETRY_S = 5.0


@dataclass
class Reloading:
    """waits: why settings that were read could not be applied yet."""

    tools: Tools
    waits: str | None = None
    _pending: Settings | None = None
    _due_s: float = 0.0

    @property
    def pending(self) -> bool:
        return self._pending is not None

    def request(self, settings: Settings, now_s: float) -> None:
        """Apply these settings at the next attempt."""
        self._pending, self._due_s = settings, now_s

    def read(self, load: Callable[[], Settings], now_s: float) -> None:
        """Request what `load` gives; where that is wrong, log why and keep the old settings."""
        try:
            self.request(load(), now_s)
        except CkptwatchError as error:
            self.tools.log.event("settings_refused", reason=error.cause)
        except OSError as error:  # the working folder was deleted, say
            reason = f"{error.filename or 'the working folder'}: {error.strerror}"
            self.tools.log.event("settings_refused", reason=reason)

    def attempt(self, now_s: float) -> Watching | None:
        """All that follows from the requested settings, started; None where there is nothing to swap (yet)."""
        if self._pending is None or now_s < self._due_s:
            return None
        try:
            fresh = watching.begin(self._pending, self.tools, time.time())
        except StoreUnavailable as error:
            self._due_s = now_s + RETRY_S
            if self.waits != error.cause:
                self.waits = error.cause
                self.tools.log.event("settings_wait", reason=error.cause)
            return None
        except CkptwatchError as error:
            self._pending = self.waits = None
            self.tools.log.event("settings_refused", reason=error.cause)
            return None
        except Exception as error:
            self._pending = self.waits = None
            self.tools.isolation.note("applying the settings", error, now_s)
            self.tools.log.event("settings_refused", reason=f"{type(error).__name__}: {error}")
            return None
        self._pending = self.waits = None
        return fresh
