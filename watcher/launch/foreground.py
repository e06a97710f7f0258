"""Runs a verb that needs torch, `python -m evalcore...`, in the foreground: the terminal is the child's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from watcher.errors import EnvironmentProblem
from watcher.launch.environment import job_environment


def run_in_foreground(module: str, arguments: Sequence[str], python: str | None = None) -> int:
    """The exit status; that of a shell where a signal ended it. Raises EnvironmentProblem where it cannot be started.

    python: of the environment with torch, `launch.python`.
    """
    command = [python or sys.executable, "-m", module, *arguments]
    environment = job_environment(os.environ, ("PYTHONPATH", "TERM", "NO_COLOR"), {})
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        reason = f"{command[0]} cannot be started: {error.strerror}"
        raise EnvironmentProblem(reason, hint="check launch.python") from None
    while True:
        try:
            status = process.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:  # the child got it from the terminal, and ends by itself
            continue
