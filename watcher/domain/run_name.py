"""The name of a run that nobody named: its folder's, or a parent's where the folder's says nothing. Pure."""

from __future__ import annotations

#: Names that every experiment gives to the folder of its checkpoints: two of them are two runs.
GENERIC = frozenset(
    {
        *("checkpoint", "checkpoints", "ckpt", "ckpts", "chkpt", "model", "models", "weights", "snapshots", "states"),
        *("out", "output", "outputs", "save", "saves", "saved", "results", "logs", "log", "run", "runs", "tmp"),
    }
)


def default_run_name(folder: str) -> str:
    """`exp1` for `exp1/checkpoints`, `gpt` for `gpt`; the folder's own name where no parent says more."""
    parts = [part for part in folder.split("/") if part]
    for part in reversed(parts):
        if part.lower() not in GENERIC:
            return part
    return parts[-1] if parts else "run"
