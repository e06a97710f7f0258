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
    command = [python or sys.executable, "-m", "evalcore.data", action, *options, "--json", "--", *paths]
    environment = job_environment(
        os.environ, ("PYTHONPATH", "HTTP*_PROXY", "SSL_CERT_*"), {"PYTHONUNBUFFERED": "1", **(given or {})}
    )
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # else it gets Ctrl-C too, and prints a traceback
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
