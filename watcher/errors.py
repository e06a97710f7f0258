"""The exceptions a user can meet; each carries a hint (the next command to type) and the exit status it ends with.

CkptwatchError            1  unexpected
├── DeliveryError         1  a sink or an alert's channel cannot take something now; sent again later
├── UsageError            2  the command line does not make sense
├── ConfigError           3  ckptwatch.toml, an environment variable or a flag has a problem; or a folder is missing
├── NothingFound          4  the path or the rows asked for are not there
├── SomeFailed            5  some evaluations ended as failures
├── LockHeld              6  another daemon holds the lock
├── EnvironmentProblem    7  the machine: database refused, a library or program missing
│   ├── StoreRefused         a foreign, newer or corrupt database; left untouched
│   └── StoreUnavailable     locked, full or read-only: the daemon pauses and tries again
└── CheckpointUnreadable  8  a checkpoint that cannot be read or is of no supported format
"""

from __future__ import annotations

from pathlib import Path


class CkptwatchError(Exception):
    """Cause in one line (with the path), what was tried, and the hint: the next command to type."""

    exit_code = 1

    def __init__(self, cause: str, *, hint: str = "", tried: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.tried = tried
        self.hint = hint


class DeliveryError(CkptwatchError):
    pass


class UsageError(CkptwatchError):
    exit_code = 2


class ConfigError(CkptwatchError):
    exit_code = 3


class NothingFound(CkptwatchError):
    exit_code = 4


class SomeFailed(CkptwatchError):
    exit_code = 5


class LockHeld(CkptwatchError):
    exit_code = 6

    def __init__(self, path: Path, holder: str, hint: str = "") -> None:
        super().__init__(
            f"another process ({holder}) holds the lock {path}",
            hint=hint or "see `ckptwatch status`, or use another database with --db FILE",
        )
        self.path = path
        self.holder = holder


class EnvironmentProblem(CkptwatchError):
    exit_code = 7


class StoreRefused(EnvironmentProblem):
    pass


class StoreUnavailable(EnvironmentProblem):
    pass


class CheckpointUnreadable(CkptwatchError):
    exit_code = 8
