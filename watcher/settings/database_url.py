"""Is this a database that results can be kept in? A file name or an SQLAlchemy URL, judged without opening it."""

from __future__ import annotations

import importlib.util
import os
import re
from urllib.parse import urlsplit

from watcher.domain.database import DEFAULT_DATABASE
from watcher.settings.masking import without_password

_SCHEME = re.compile(r"[a-z][a-z0-9]*(\+[a-z0-9_]+)?", re.IGNORECASE)
_EXAMPLES = "write a file name, sqlite:////absolute/file.db, or postgresql+psycopg://user@host/database"


def database_url_problem(url: str) -> str | None:
    """Why results cannot be kept there, with the remedy; None where they can, judged by the text."""
    if "\0" in url:
        return "has a NUL byte"
    if "://" not in url:
        return _file_problem(url)
    scheme, _, rest = url.partition("://")
    if not _SCHEME.fullmatch(scheme):
        return f"{without_password(url)!r} is no database URL: {_EXAMPLES}"
    backend, _, driver = scheme.lower().partition("+")
    if backend == "postgresql":
        return _server_problem(url, rest, driver)
    if backend != "sqlite":
        return f"{scheme} is not supported: {_EXAMPLES}"
    path, _, query = rest.partition("?")
    if path and not path.startswith("/"):
        return f"SQLite has no host: write sqlite:///{path}"
    path = path[1:]
    if path in ("", ":memory:") or "mode=memory" in query:
        return "is a database in memory, which is lost at exit: name a file, such as sqlite:///ckptwatch.db"
    return _file_problem(path)


def _server_problem(url: str, rest: str, driver: str) -> str | None:
    shown = without_password(url)
    if not rest:
        return f"{shown!r} names no server: {_EXAMPLES}"
    try:
        urlsplit(url).port  # noqa: B018
    except ValueError as error:
        return f"{shown!r} cannot be parsed: {error}"
    if not driver and importlib.util.find_spec("psycopg2") is None:
        return f"{shown!r} means the driver psycopg2, which is not installed: write postgresql+psycopg://"
    return None


def _file_problem(path: str) -> str | None:
    if path.startswith("~"):
        return f"`~` is not expanded in {path!r}: write the whole path"
    if os.path.isdir(path) or path.endswith("/"):
        return f"{path} is a folder: name a file in it, such as {os.path.join(path, DEFAULT_DATABASE)}"
    return None
