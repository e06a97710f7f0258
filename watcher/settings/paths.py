"""One spelling for each path that a user gives, for what is shown, compared and stored. Never replaces a link."""

from __future__ import annotations

import os


def plain_path(path: str | os.PathLike[str]) -> str:
    """The absolute path without `.`, `..` and doubled or trailing slashes.

    Links stay as they are given, since a run's folder may be a link that moves on. The exception is a link before
    `..`, which is followed, as the kernel does: `link/..` is the folder of the link's target.
    """
    place = "/"
    for part in os.path.join(os.getcwd(), os.fspath(path)).split("/"):
        if part == "..":
            place = os.path.dirname(os.path.realpath(place) if os.path.islink(place) else place)
        elif part not in ("", "."):
            place = os.path.join(place, part)
    return place
