"""Runs a module of evalcore that needs torch in a process of its own, on this terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from watcher.errors import EnvironmentProblem
from watcher.launch.environment import job_environment


def run_core_module(
    module: str, arguments: Sequence[str], python: str | None = None, allowed_env: Sequence[str] = ()
) -> int:
    """`python -m MODULE ARGUMENTS` with stdin, stdout and stderr inherited; returns its exit status.

    Its environment is that of a job. allowed_env: `launch.env`. Raises EnvironmentProblem where it cannot be started.
    """
    executable = python or sys.executable
    try:
        return subprocess.run(
            [executable, "-m", module, *arguments],
            env=job_environment(os.environ, ("PYTHONPATH", "TERM", "NO_COLOR", *allowed_env), {}),
            check=False,
        ).returncode
    except OSError as error:
        raise EnvironmentProblem(
            f"{executable} cannot be started: {error.strerror}", hint="check launch.python"
        ) from None
