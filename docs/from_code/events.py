"""Log events: names, levels and words of watcher.log.EVENTS."""

from __future__ import annotations

import re

from docs.from_code.markdown import code, generated, table
from watcher.log import EVENTS

_ABOUT = """
Events that the daemon logs on stderr (under systemd: in the journal), one line each. `{path}` begins with the
name of the run. Control characters in file names are escaped.
"""
_LEVELS = {-1: "always, also in `eval`", 0: "always, also with `-q`", 1: "by default", 2: "with `-v`", 3: "with `-vv`"}


def page() -> str:
    """Events in the order of the code."""
    rows = [
        [code(name), _LEVELS[level], code(re.sub(r"\s{2,}", " ", words))] for name, (level, words) in EVENTS.items()
    ]
    return generated("Log events", "watcher/log.py", _ABOUT) + "\n" + table(["event", "shown", "words"], rows)
