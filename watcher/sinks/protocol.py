"""What every sink offers, and what they share: keys, the training axis, what to say of a loss that is not finite."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

from watcher.errors import CkptwatchError, EnvironmentProblem

Row = dict[str, Any]  # a row of `results`
AXIS = "train_step"
MEASURES = ("loss", "ppl", "bits_per_byte")


class Sink(Protocol):
    """Takes results late and out of order. `send` may raise; what it was sending is sent again later.

    already: which of these rows (ids of results) it has; asked only when an earlier delivery was cut short, or by
    `ckptwatch export`, so that nothing is written twice.
    """

    name: str

    def already(self, rows: Sequence[Row]) -> set[int]: ...

    def send(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class SinkError(CkptwatchError):
    """A tracker or file that cannot be written now; tried again later."""


def metrics_of(row: Row, *, nan: bool) -> dict[str, float]:
    """`eval/<set>/loss|ppl|bits_per_byte` of one result. nan: whether the sink can take NaN for a loss that is none."""
    found = {}
    for measure in MEASURES:
        value = row[measure]
        if value is not None and math.isfinite(value):
            found[f"eval/{row['eval_set']}/{measure}"] = float(value)
    if nan and not row["finite"]:
        found.setdefault(f"eval/{row['eval_set']}/loss", math.nan)
    return found


def remark(row: Row) -> str | None:
    """What numbers cannot say of a result: a loss that is not finite, an unusual file, a missing step."""
    said = []
    if not row["finite"]:
        said.append("the loss is not finite")
    elif row["ppl"] is None:
        said.append("the perplexity is too large for a number")
    if row["step"] is None:
        said.append("nothing tells the training step")
    if row["note"]:
        said.append(row["note"])
    return f"{row['checkpoint']} on {row['eval_set']}: {'; '.join(said)}" if said else None


def by_run(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows grouped by training run, each in order of step."""
    for run in sorted({row["run"] for row in rows}):
        mine = [row for row in rows if row["run"] == run]
        yield run, sorted(mine, key=lambda row: (row["step"] is None, row["step"] or 0, row["id"]))


def library(module: str, extra: str) -> ModuleType:
    """Import a sink's library. Raises EnvironmentProblem that names the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the sink {extra} needs a library that is not installed: {error.name}",
            hint=f"pip install 'ckptwatch[{extra}]'",
        ) from None
