"""The name of a run without a `name`: its folder's, longer by parent folders where another folder has that. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def default_run_name(folder: str) -> str:
    """`checkpoints` for `/data/exp1/checkpoints`. folder: an absolute path."""
    return next(run_names(folder))


def run_names(folder: str) -> Iterator[str]:
    """Names for the run of a folder, the preferred one first: `checkpoints`, `exp1-checkpoints`, ..."""
    parts = [part for part in folder.split("/") if part] or ["run"]
    for first in range(len(parts) - 1, -1, -1):
        yield "-".join(parts[first:])
