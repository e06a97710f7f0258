"""How a database is named: the default file, and the SQLite file behind a path or URL. Pure; opens nothing."""

from __future__ import annotations

import re

DEFAULT_DATABASE = "ckptwatch.db"
_SQLITE_URL = re.compile(r"sqlite(?:\+\w+)?:///([^?]*)")


def sqlite_file(url: str) -> str | None:
    """The file of `sqlite:///relative`, `sqlite:////absolute` or a plain path; None for a database server."""
    if "://" not in url:
        return url
    match = _SQLITE_URL.match(url)
    return match.group(1) if match else None
