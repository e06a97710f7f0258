"""Which checkpoints may be deleted: the rules of `prune --keep`. Pure; deletes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watcher.domain.metrics import headline
from watcher.errors import UsageError

Row = dict[str, Any]
Version = tuple[str, str, str]  # run, path, digest
NO_MEANS: Mapping[Version, Sequence[int]] = {}


@dataclass(frozen=True)
class Keep:
    """best: the best values of each run and set (accuracy of a task, else loss), last: the highest steps; how many of
    each. every: multiples of this step."""

    best: int = 0
    last: int = 0
    every: int = 0


def parse_keep(text: str) -> Keep:
    """`best:3,last:5,every:1000`. Raises UsageError."""
    hint = "--keep best:3,last:5,every:1000"
    counts: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, number = part.partition(":")
        if name not in ("best", "last", "every") or not number.isdecimal() or int(number) < 1:
            raise UsageError(f"--keep {text}: {part!r} is not a rule", hint=hint)
        if name in counts:
            raise UsageError(f"--keep {text}: {name} is given twice", hint=hint)
        counts[name] = int(number)
    if not counts:
        raise UsageError("--keep names no rule: that would delete everything", hint=hint)
    return Keep(**counts)


def decide(
    checkpoints: Sequence[Row], results: Sequence[Row], keep: Keep, members: Mapping[Version, Sequence[int]] = NO_MEANS
) -> list[tuple[Row, str | None]]:
    """Each checkpoint with why it stays; None where it may go. checkpoints: in order of run, then step. members: ids of
    the checkpoints behind each mean; those of the best means stay, as far as all of them are on disk.

    Only what is on disk now counts (`on_disk`): a better checkpoint that is gone replaces none. What a trainer would
    resume from stays, and whatever is not known well: no step or result yet, waiting, pinned.
    """
    present = [row for row in checkpoints if row["on_disk"]]
    behind = {_version_of_file(row): [row["id"]] for row in present}
    ids = {row["id"] for row in present}
    behind |= {mean: list(its) for mean, its in members.items() if ids.issuperset(its)}
    best = {member for version in _best_versions(behind, results, keep.best) for member in behind[version]}
    last: set[int] = set()
    newest: set[int] = set()
    for run in dict.fromkeys(row["run"] for row in present):
        of_run = sorted((row for row in present if row["run"] == run), key=lambda row: (row["observed_at"], row["id"]))
        stepped = sorted(
            (row for row in of_run if row["step"] is not None), key=lambda row: (row["step"], row["observed_at"])
        )
        newest |= {row["id"] for row in (*of_run[-1:], *stepped[-1:])}
        last |= {row["id"] for row in stepped[len(stepped) - min(keep.last, len(stepped)) :]}
    return [(row, _why_kept(row, keep, best, last, newest)) for row in checkpoints]


def _best_versions(versions: Collection[Version], results: Sequence[Row], count: int) -> set[Version]:
    cells: dict[tuple[str, str, str | None], list[Row]] = defaultdict(list)
    for row in results:
        if row["finite"] and headline(row).value_of(row) is not None and _version(row) in versions:
            cells[(row["run"], row["eval_set"], row["weights"])].append(row)
    best = set()
    for rows in cells.values():
        best |= {_version(row) for row in sorted(rows, key=_rank)[:count]}
    return best


def _rank(row: Row) -> tuple[float, int]:
    """The best value first, the earliest step of equal ones."""
    metric = headline(row)
    value = metric.value_of(row)
    assert value is not None
    return (-value if metric.higher_is_better else value), row["step"] or 0


def _version(result: Row) -> Version:
    return result["run"], result["checkpoint"], result["checkpoint_digest"]


def _version_of_file(checkpoint: Row) -> Version:
    return checkpoint["run"], checkpoint["path"], checkpoint["digest"]


def _why_kept(row: Row, keep: Keep, best: set[int], last: set[int], newest: set[int]) -> str | None:
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
    if row["id"] in best:
        return f"one of the best {keep.best}"
    if row["id"] in last:
        return f"one of the last {keep.last}"
    if keep.every and row["step"] % keep.every == 0:
        return f"a multiple of {keep.every}"
    return None
