"""What to try instead of a checkpoint path that does not exist, for hints. Reads listings; never opens a checkpoint."""

from __future__ import annotations

import difflib
import os
import shlex
from itertools import islice

from evalcore.archive import kind_at
from watcher.domain.checkpoint import looks_like_a_checkpoint, printable

ENTRIES_MAX = 2_000
NAMED_MAX = 3


def hint_where_absent(path: str, command: str) -> str:
    """The checkpoint of the nearest name in the same folder, else the newest ones there.

    command: to copy, with {} for the checkpoint.
    """
    folder, name = os.path.split(path.rstrip("/"))
    if folder and not os.path.isdir(folder):
        return f"check the path: there is no folder {printable(folder)}"
    newest_first = _checkpoints_in(folder or ".")
    near = difflib.get_close_matches(name, newest_first, n=1)
    found = [os.path.join(folder, each) for each in near or newest_first[:NAMED_MAX]]
    if not found:
        return "check the path: there is no checkpoint in its folder"
    names = ", ".join(map(printable, found)) + ", ..." * (not near and len(newest_first) > NAMED_MAX)
    words = f"did you mean {names}?" if near else f"in its folder: {names}."
    return f"{words} {command.format(shlex.quote(printable(found[0])))}"


def _checkpoints_in(folder: str) -> list[str]:
    """Names of files and folders that may be checkpoints, the newest first."""
    found: list[tuple[float, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, ENTRIES_MAX):
                if kind_at(entry.path) is not None if entry.is_dir() else looks_like_a_checkpoint(entry.name):
                    found.append((entry.stat().st_mtime, entry.name))
    except OSError:  # a hint only: what was listed so far is enough
        pass
    return [name for _, name in sorted(found, reverse=True)]
