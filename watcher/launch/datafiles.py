"""Asking evalcore what data files are, in a process of its own: numpy and tokenizers stay out of this one."""

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


def ask(
    action: str,
    paths: Sequence[str],
    options: Sequence[str],
    python: str | None = None,
    tell: Callable[[Progress], None] | None = None,
    given: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """`sniff` or `stats`: one object a file, as each is known; `tokenizer`: one a name. Raises EnvironmentProblem
    where the process fails.

    options: further arguments of `python -m evalcore.data`. tell: gets how far it is with a large file. given: laid
    over its environment. What the process says on stderr goes to ours.
    """
    options = [*options, *(["--progress"] if tell else [])]
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
            start_new_session=True,  # Ctrl-C is ours: the process would print a traceback of its own
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"{command[0]} cannot be started: {error.strerror}", hint="check launch.python"
        ) from None
    assert process.stdout is not None  # a pipe was asked for
    try:
        with process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                if tell is not None and "progress" in said:
                    tell(Progress(**said["progress"]))
                else:
                    yield said
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.kill()
        status = process.wait()
    if status != 0:
        raise EnvironmentProblem(
            f"looking at the data ended with status {status}", tried=" ".join(command[:4]), hint="ckptwatch doctor"
        )
