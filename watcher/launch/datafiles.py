"""Runs `python -m evalcore.data` and reads its answers: numpy and tokenizers are not loaded into this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evalcore.progress import Progress
from watcher.errors import EnvironmentProblem
from watcher.launch.environment import job_environment
from watcher.launch.local import shimmed


def run_data_command(
    action: str,
    paths: Sequence[str],
    options: Sequence[str],
    python: str | None = None,
    report_progress: Callable[[Progress], None] | None = None,
    given: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """`sniff` or `stats`: one object a file, as each is known; `tokenizer`: one a name. Raises EnvironmentProblem
    where the process fails.

    options: further arguments of `python -m evalcore.data`. report_progress: called while a large file is read.
    given: environment variables to add. Its stderr is passed through.
    """
    options = [*options, *(["--progress"] if report_progress else [])]
    executable = python or sys.executable
    if not os.access(executable, os.X_OK):
        raise EnvironmentProblem(f"{executable} cannot be executed", hint="check launch.python")
    command = [executable, "-m", "evalcore.data", action, *options, "--json", "--", *paths]
    environment = job_environment(
        os.environ, ("PYTHONPATH", "HTTP*_PROXY", "SSL_CERT_*"), {"PYTHONUNBUFFERED": "1", **(given or {})}
    )
    try:
        process = subprocess.Popen(
            shimmed(command),  # it ends with this process, and gets no Ctrl-C, at which it would print a traceback
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"{command[0]} cannot be started: {error.strerror}", hint="check launch.python"
        ) from None
    assert process.stdout is not None  # a pipe was asked for
    try:
        with process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                if report_progress is not None and "progress" in answer:
                    report_progress(Progress(**answer["progress"]))
                else:
                    yield answer
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.kill()
        status = process.wait()
    if status != 0:
        raise EnvironmentProblem(
            f"looking at the data ended with status {status}", tried=" ".join(command[:4]), hint="ckptwatch doctor"
        )
