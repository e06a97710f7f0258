"""Calls the user's own code, a factory or the forward pass of its model, and names what is wrong in it.

Owns which errors are the user's code's: all but a lack of memory and a device that failed. Runs nothing by itself.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import torch

from evalcore.measure.memory import is_out_of_memory
from evalcore.models.plan import CheckpointError

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_DEVICE_WORDS = ("cuda error", "hip error", "nccl", "cublas_status", "cudnn_status", "device-side assert")


class UserCodeError(CheckpointError):
    """An exception of the user's code: `unsupported`, since another attempt would raise it again.

    traceback_text: Python's own traceback, which begins at the first frame of the user's code.
    """

    def __init__(self, reason: str, hint: str, traceback_text: str) -> None:
        super().__init__("unsupported", reason, hint)
        self.traceback_text = traceback_text


def call_user_code(what: str, call: Callable[[], Any]) -> Any:
    """The result of `call`. Raises UserCodeError for what the user's code raised, `sys.exit` included.

    what: the subject of the sentence, such as `model.factory mymodel:build`. Lack of memory and failures of a device
    pass through, for they may not come again.
    """
    try:
        return call()
    except (CheckpointError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or _is_of_the_device(error):
            raise
        frames = _frames_of_the_user(error)
        last = frames[-1] if frames else None  # a SyntaxError has none
        where = f" ({os.path.basename(last.filename)} line {last.lineno}, in {last.name})" if last else ""
        message = f": {str(error)[:300]}" if str(error) else ""
        raise UserCodeError(
            f"{what} failed: {type(error).__name__}{message}{where}",
            "ckptwatch model try FACTORY CKPT runs it here; the job's log has the traceback",
            _traceback_text(error, frames),
        ) from error


def _is_of_the_device(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _DEVICE_WORDS)


def _frames_of_the_user(error: BaseException) -> traceback.StackSummary:
    """From the first frame that is neither ours nor torch's, nor of the import machinery, to the last one of the user.

    Frames of libraries below the user's last line are left out of the place, not of the traceback.
    """
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not _is_foreign(frame.filename)]
    return traceback.StackSummary.from_list(users)


def _traceback_text(error: BaseException, users: traceback.StackSummary) -> str:
    frames = list(traceback.extract_tb(error.__traceback__))
    while frames and users and (frames[0].filename, frames[0].lineno) != (users[0].filename, users[0].lineno):
        frames.pop(0)
    shown = traceback.format_list(frames) if users else []
    return "".join(["Traceback (most recent call last):\n" * bool(shown), *shown,
                    *traceback.format_exception_only(error)])  # fmt: skip


def _is_foreign(file: str) -> bool:
    return file.startswith((_OURS, _TORCH, "<frozen importlib")) or f"{os.sep}importlib{os.sep}" in file
