"""The life of a job: diagram, states, causes and kinds, from watcher.domain.job and evalcore.messages."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum

from docs.from_code.markdown import NotInTheCode, code, generated, table
from evalcore.messages import DETERMINISTIC_KINDS, FAILURE_KINDS
from watcher.domain import job, kinds

_ABOUT = """
A job is one checkpoint on one eval set. These are its states and transitions.
"""


def page() -> str:
    """Diagram, then states, causes and kinds."""
    _, _, rest = (inspect.getdoc(job) or "").partition("\n\n")
    drawing = [line for line in rest.splitlines() if line.startswith("    ") or not line.strip()]
    words = " ".join(line for line in rest.splitlines() if line.strip() and not line.startswith("    "))
    policy = job.RetryPolicy()
    return "\n".join(
        [
            generated("Job states", "watcher/domain/job.py", _ABOUT),
            "```text\n" + inspect.cleandoc("\n".join(drawing)) + "\n```\n",
            words + "\n",
            "## States\n",
            _explained(job.State) + "\n",
            table(["state", "meaning"], ((code(state.value), kinds.STATES[state.value]) for state in job.State)),
            "## Why an attempt ends\n",
            table(["cause", "meaning"], ((code(cause.value), said) for cause, said in _said_of(job.Cause).items())),
            "## Kinds of failure\n",
            "A failed job has a kind. Deterministic kinds are not retried until the file or the settings change.\n"
            "The others are tried up to `launch.attempts` times "
            f"({policy.attempts}), with a pause\nof `launch.backoff_s` ({policy.first_backoff_s:g} s) that grows "
            f"by a factor of {job.BACKOFF_FACTOR}, up to {job.BACKOFF_MAX_S / 60:g} minutes. Attempts interrupted\n"
            f"by the daemon's death are uncharged and queued again at once, up to {job.ORPHANED_MAX} times.\n",
            table(["kind", "retried", "meaning"], _kinds()),
            "## Kinds of cancelled jobs\n",
            table(["kind", "meaning"], ((code(kind), said) for kind, said in kinds.CANCELLED.items())),
        ]
    )


def _kinds() -> list[list[str]]:
    rows = []
    for kind, said in kinds.FAILURES.items():
        rows.append([code(kind), "no" if kind in DETERMINISTIC_KINDS else "yes", said])
    if {row[0].strip("`") for row in rows} != FAILURE_KINDS:
        raise NotInTheCode("watcher.domain.kinds.FAILURES and evalcore.messages.FAILURE_KINDS differ")
    return rows


def _explained(enum: type[StrEnum]) -> str:
    """The last sentence of the docstring is about all states; the table has the others."""
    return "`succeeded`, `failed` and `cancelled` are final: they have `finished_at`." if enum is job.State else ""


def _said_of(enum: type[StrEnum]) -> dict[StrEnum, str]:
    """What the docstring says of each member: `NAME: words.` and `NAME, NAME: words.`"""
    text = " ".join((inspect.getdoc(enum) or "").split())
    found: dict[StrEnum, str] = {}
    for names, words in re.findall(r"([A-Z_]+(?:, [A-Z_]+)*): (.*?\.)(?= [A-Z_]{3,}|$)", text):
        for name in names.split(", "):
            found[enum[name]] = words[0].upper() + words[1:]
    if missing := [member.name for member in enum if member not in found]:
        raise NotInTheCode(f"{enum.__qualname__}'s docstring does not speak of {', '.join(missing)}")
    return {member: found[member] for member in enum}
