"""What kind of failure an error is: the kinds of an outcome, with a reason and a hint.

Owns the mapping from exceptions to kinds. Never catches one.
"""

from __future__ import annotations

import sys
import traceback

from evalcore.data import DataError
from evalcore.measure import memory
from evalcore.measure.agreement import OutOfMemory, RankFailed, RanksDisagree
from evalcore.models.plan import CheckpointError
from evalcore.models.user_code import UserCodeError

_TRACEBACK_LINES = 6
Failure = tuple[str, str, str | None]  # (kind, reason, hint); kind `superseded` is no failure but an outcome of its own


def failure_of(error: BaseException, where: str) -> Failure:
    """The kind, reason and hint of an error; any other error is a crash with the end of its traceback."""
    if isinstance(error, UserCodeError):
        sys.stderr.write(f"{error.traceback_text}\n")  # into the job's log
    if isinstance(error, (CheckpointError, DataError)):
        return error.kind, error.reason, error.hint
    if isinstance(error, FileNotFoundError):
        return "vanished", f"{where} is gone", None
    if isinstance(error, OutOfMemory) or memory.is_out_of_memory(error):
        return "oom", f"out of memory: {str(error)[:300]}", "set launch.batch_size, or use a device with more memory"
    if isinstance(error, RankFailed):
        return "crash", str(error)[-2000:], None
    if isinstance(error, RanksDisagree):
        return "protocol", str(error), "give launch.nproc = 1, and report this with the worker's log"
    lines = "".join(traceback.format_exception(error)).strip().splitlines()[-_TRACEBACK_LINES:]
    return "crash", " | ".join(line.strip() for line in lines)[-2000:], None


def first_failure(failures: list[Failure | None]) -> Failure | None:
    return next((failure for failure in failures if failure is not None), None)
