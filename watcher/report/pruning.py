"""Which checkpoints a person may do without: the rules of `prune --keep`. Pure; deletes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.errors import UsageError

Row = dict[str, Any]


@dataclass(frozen=True)
class Keep:
    """best: so many lowest losses of each run and set. last: so many newest steps. every: multiples of this step."""

    best: int = 0
    last: int = 0
    every: int = 0


def parse_keep(text: str) -> Keep:
    """`best:3,last:5,every:1000`. Raises UsageError."""
    hint = "--keep best:3,last:5,every:1000"
    said: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, number = part.partition(":")
        if name not in ("best", "last", "every") or not number.isdigit() or int(number) < 1:
            raise UsageError(f"--keep {text}: {part!r} is no rule", hint=hint)
        if name in said:
            raise UsageError(f"--keep {text}: {name} is given twice", hint=hint)
        said[name] = int(number)
    if not said:
        raise UsageError("--keep names no rule: that would let everything go", hint=hint)
    return Keep(**said)


def decide(checkpoints: Sequence[Row], results: Sequence[Row], keep: Keep) -> list[tuple[Row, str | None]]:
    """Each checkpoint with why it stays; None where it may go. checkpoints: in order of run, then step.

    What a trainer would resume from stays, and whatever is not known well: no step or result yet, waiting, pinned.
    """
    best = _best_paths(results, keep.best)
    last: set[int] = set()
    newest: set[int] = set()
    for run in dict.fromkeys(row["run"] for row in checkpoints):
        mine = sorted((row for row in checkpoints if row["run"] == run), key=lambda row: (row["saved_at"], row["id"]))
        stepped = sorted(
            (row for row in mine if row["step"] is not None), key=lambda row: (row["step"], row["saved_at"])
        )
        newest |= {row["id"] for row in (*mine[-1:], *stepped[-1:])}
        last |= {row["id"] for row in stepped[len(stepped) - min(keep.last, len(stepped)) :]}
    return [(row, _why_kept(row, keep, best, last, newest)) for row in checkpoints]


def _best_paths(results: Sequence[Row], count: int) -> set[tuple[str, str, str]]:
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in results:
        if row["finite"] and row["loss"] is not None:
            cells[(row["run"], row["eval_set"])].append(row)
    found = set()
    for rows in cells.values():
        for row in sorted(rows, key=lambda row: (row["loss"], row["step"] or 0))[:count]:
            found.add((row["run"], row["checkpoint"], row["checkpoint_digest"]))
    return found


def _why_kept(row: Row, keep: Keep, best: set[tuple[str, str, str]], last: set[int], newest: set[int]) -> str | None:
    if row["unfinished"]:
        return "an evaluation of it waits or runs"
    if row["spool_path"] is not None:
        return "it is pinned"
    if not row["measured"]:
        return "it has no result"
    if row["step"] is None:
        return "its step is not known"
    if row["id"] in newest:
        return "the newest of its run"
    if (row["run"], row["path"], row["digest"]) in best:
        return f"one of the best {keep.best}"
    if row["id"] in last:
        return f"one of the last {keep.last}"
    if keep.every and row["step"] % keep.every == 0:
        return f"a multiple of {keep.every}"
    return None
