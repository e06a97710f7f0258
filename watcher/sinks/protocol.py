"""What every sink offers, and what they share: metric names, the training axis, remarks on unusual results."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

from watcher.domain.metrics import PUBLISHED
from watcher.errors import EnvironmentProblem

Row = dict[str, Any]  # a row of `results`
AXIS = "train_step"


class Sink(Protocol):
    """Takes results late and out of order. `send` may raise; what it was sending is sent again later.

    already: which of these rows (ids of results) it has; asked only when an earlier delivery was cut short, or by
    `ckptwatch export`, so that nothing is written twice.
    """

    name: str

    def already(self, rows: Sequence[Row]) -> set[int]: ...

    def send(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


def send_missing(sink: Sink, rows: Sequence[Row], *, unsure: bool) -> int:
    """Send rows and close the sink; where unsure, only those that it does not have. Returns how many were sent."""
    try:
        present = sink.already(rows) if unsure else set()
        missing = [row for row in rows if row["id"] not in present]
        if missing:
            sink.send(missing)
        return len(missing)
    finally:
        sink.close()


def metrics_of(row: Row, *, nan: bool) -> dict[str, float]:
    """`eval/<set>/<metric>` of one result, those that it has.

    A mean of checkpoints has names of its own: `eval/<set>/<weights>/...`. nan: whether the sink can take NaN for a
    loss that is none.
    """
    metrics = {}
    name = f"eval/{row['eval_set']}" + (f"/{row['weights']}" if row.get("weights") else "")
    for metric in PUBLISHED:
        value = row.get(metric.value)
        if value is not None and math.isfinite(value):
            metrics[f"{name}/{metric.key}"] = float(value)
    if nan and not row["finite"]:
        metrics.setdefault(f"{name}/loss", math.nan)
    return metrics


def remark(row: Row) -> str | None:
    """What numbers cannot express: a loss that is not finite, an unusual file, a missing step."""
    remarks = []
    if not row["finite"]:
        remarks.append("the loss is not finite")
    elif row["ppl"] is None and row.get("task") is None:
        remarks.append("the perplexity is too large for a number")
    if row["step"] is None:
        remarks.append("the training step is unknown")
    if row["note"]:
        remarks.append(row["note"])
    return f"{row['checkpoint']} on {row['eval_set']}: {'; '.join(remarks)}" if remarks else None


def by_run(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows grouped by training run, each in order of step."""
    for run in sorted({row["run"] for row in rows}):
        of_run = [row for row in rows if row["run"] == run]
        yield run, sorted(of_run, key=lambda row: (row["step"] is None, row["step"] or 0, row["id"]))


def library(module: str, extra: str) -> ModuleType:
    """Import a sink's library. Raises EnvironmentProblem that names the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the sink {extra} needs a library that is not installed: {error.name}",
            hint=f"in a clone of ckptwatch: pip install '.[{extra}]'",
        ) from None
