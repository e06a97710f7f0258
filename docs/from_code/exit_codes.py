"""Exit statuses: from the tree of watcher.errors and from `status`."""

from __future__ import annotations

import inspect
import re

from docs.from_code.markdown import NotInTheCode, generated, table
from watcher import errors
from watcher.domain.health import EXIT_CODES, EXIT_DEGRADED, HealthState

_ABOUT = """
Every error prints one line of cause with the path, what was tried, and the next command, on stderr. An exception that
ckptwatch did not expect ends with 1, and the message names the file with its traceback (`ckptwatch-error-*.txt` in the
temporary folder; under systemd also in the journal). A reader that closes the pipe, such as `ckptwatch results | head`,
is no error: the status is 0.
"""


def page() -> str:
    """The errors of every verb, then those of `status`."""
    own = [
        (EXIT_CODES[HealthState.OK], "the daemon runs; no action needed"),
        (EXIT_CODES[HealthState.DOWN], "no daemon holds the lock"),
        (EXIT_CODES[HealthState.STALLED], "a daemon holds the lock, and its last heartbeat is over a minute old"),
        (EXIT_DEGRADED, "degraded, paused, or not readable by this user; the reasons are printed"),
    ]
    return "\n".join(
        [
            generated("Exit codes", "watcher/errors.py", _ABOUT),
            "## Every verb\n",
            table(["status", "error", "meaning"], _every()),
            "A path that does not exist, `--data` too, is 4 for `eval`, `inspect` and `data`; for `run` a missing\n"
            "data file is 3, as any other problem of its settings. `run --once` ends with 3 where the folder is\n"
            "missing, 4 where it has no checkpoint, and 5 where a job or file failed.\n",
            "## `ckptwatch status`\n",
            "Its exit status is the short answer, for health checks:\n",
            table(["status", "meaning"], own),
        ]
    )


def _every() -> list[tuple[int, str, str]]:
    """Rows of the docstring's tree, each checked against its class."""
    rows: list[tuple[int, str, str]] = [(0, "", "ok")]
    for line in (inspect.getdoc(errors) or "").splitlines():
        found = re.match(r"[│├└─ ]*([A-Z]\w+)\s+(?:(\d+)\s+)?(\S.*)$", line)
        kind = getattr(errors, found[1], None) if found else None
        if found is None or kind is None:
            continue
        if found[2] and int(found[2]) != kind.exit_code:
            raise NotInTheCode(
                f"watcher.errors: the docstring gives {found[1]} status {found[2]}, not {kind.exit_code}"
            )
        rows.append((kind.exit_code, f"`{found[1]}`", found[3]))
    drawn = {row[1].strip("`") for row in rows}
    known = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    if known - drawn:
        raise NotInTheCode(f"watcher.errors: the docstring does not draw {', '.join(sorted(known - drawn))}")
    return [*rows, (130, "", "stopped by Ctrl-C (SIGINT)")]
