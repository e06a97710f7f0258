"""The name of a run without a `name`: the part of its folder's path that distinguishes it from other runs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

#: Names that many trainers give to their output folder: the folder above names the training.
GENERIC = {
    "checkpoints", "checkpoint", "ckpts", "ckpt", "out", "output", "outputs", "results", "models", "model", "weights",
    "log", "logs", "save", "saves", "saved", "snapshots", "state", "states", "base_checkpoints",
}  # fmt: skip
_PLACES = {"tmp", "home", "root", "data", "mnt", "scratch", "workspace", "work"}  # directly below the root: of no run


def default_run_name(folder: str) -> str:
    """`exp1` for `/data/exp1` and for `/data/exp1/checkpoints`. folder: an absolute path."""
    return next(run_names(folder))


def distinct_run_name(folder: str, taken: Collection[str]) -> str:
    """The first of the folder's names that no other run has."""
    return next((name for name in run_names(folder) if name not in taken), default_run_name(folder))


def run_names(folder: str) -> Iterator[str]:
    """Names for the run of a folder, the preferred one first: `exp1`, `exp1-checkpoints`, `data-exp1-checkpoints`."""
    parts = [part for part in folder.split("/") if part] or ["run"]
    last = len(parts) - 1
    telling = last
    while telling > 0 and parts[telling].lower() in GENERIC:
        telling -= 1
    of_no_run = (
        parts[telling].lower() in GENERIC or (telling == 0 and parts[0] in _PLACES) or parts[:telling] == ["home"]
    )
    if telling < last and not of_no_run:
        yield parts[telling]
    else:
        telling = last + 1
    for first in range(min(telling, last), -1, -1):
        yield "-".join(parts[first:])


def former_run_name(folder: str) -> str:
    """The default name up to 0.1.0, always the folder's own: a run that has it keeps it."""
    return folder.rstrip("/").rpartition("/")[2] or "run"
