"""The metrics of a result: names, labels, directions, errors and bands; and which of them a set is judged by. Pure.

A row: a mapping with the columns of `results`, and where they were read with those of `task_items`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
BAND_SIGMAS = 1.959963984540054  # 95 % of a normal distribution
_EXP_MAX = 700.0


@dataclass(frozen=True)
class Metric:
    """key: the name in addresses and flags. value, stderr: columns of `results` or `task_items`; stderr None where
    there is no standard error. about: a sentence for Prometheus."""

    key: str
    label: str
    value: str
    stderr: str | None
    higher_is_better: bool = False
    about: str = ""

    @property
    def own_stderr(self) -> str | None:
        """The column of the value's standard error; for ppl, whose band comes from the loss', None."""
        return None if self.key == "ppl" else self.stderr

    def better(self, value: float, than: float) -> bool:
        return value > than if self.higher_is_better else value < than

    def value_of(self, row: Row) -> float | None:
        """The row's value; None where it has none, or no finite one."""
        if self.key != CENTERED or CENTERED in row:
            return row.get(self.value)
        accuracy, scale = row.get("accuracy"), _above_chance(row)
        return None if accuracy is None or scale is None else (accuracy - row["random_baseline"]) / scale

    def error_of(self, row: Row) -> float | None:
        """The standard error of the row's value."""
        if self.own_stderr is None:
            return None
        if self.key != CENTERED or self.own_stderr in row:
            return row.get(self.own_stderr)
        error, scale = row.get("accuracy_stderr"), _above_chance(row)
        return None if error is None or scale is None else error / scale

    def band(self, value: float | None, stderr: float | None) -> tuple[float, float] | None:
        """(low, high); None where there is no standard error. For ppl both are the exponentials of the loss' band."""
        if value is None or stderr is None or not math.isfinite(value) or not math.isfinite(stderr):
            return None
        if self.key == "ppl":
            if value <= 0:
                return None
            low, high = math.log(value) - BAND_SIGMAS * stderr, math.log(value) + BAND_SIGMAS * stderr
            return math.exp(low), math.exp(min(high, _EXP_MAX))
        return value - BAND_SIGMAS * stderr, value + BAND_SIGMAS * stderr

    def band_of(self, row: Row) -> tuple[float, float] | None:
        """The 95 % band of the row's value."""
        return self.band(self.value_of(row), row.get("loss_stderr") if self.key == "ppl" else self.error_of(row))


CENTERED = "accuracy_centered"
LOSS = Metric(
    "loss", "loss (nats per token)", "loss", "loss_stderr", about="Loss, nats per token; absent where not finite."
)
PPL = Metric("ppl", "perplexity", "ppl", "loss_stderr", about="Perplexity.")
BITS_PER_BYTE = Metric(
    "bits_per_byte", "bits per byte", "bits_per_byte", "bits_per_byte_stderr", about="Bits per byte of text."
)
ACCURACY = Metric(
    "accuracy", "accuracy", "accuracy", "accuracy_stderr", True, "Share of a task's items answered correctly."
)
ACCURACY_NORM = Metric(
    "accuracy_norm", "accuracy, length-normalised", "accuracy_norm", "accuracy_norm_stderr", True,
    "Share of a task's items answered correctly by length-normalised scores.",
)  # fmt: skip
#: Columns of `results` that sinks and Prometheus get.
PUBLISHED = (LOSS, PPL, BITS_PER_BYTE, ACCURACY, ACCURACY_NORM)
#: The mean of a suite's tasks on one checkpoint: no column of `results`, so no metric of `SCORES`.
SUITE = Metric("suite", "mean accuracy above guessing of a suite", "suite_mean", "suite_stderr", True)
METRICS = {
    metric.key: metric
    for metric in (
        *PUBLISHED,
        Metric(CENTERED, "accuracy above guessing", CENTERED, f"{CENTERED}_stderr", True),
        Metric("ppl_item", "perplexity per item", "ppl_item", None),
        SUITE,
        Metric("logged", "loss logged by the trainer", "logged_val_loss", None),
    )
}
#: Those of the view `scores`.
SCORES = {key: metric for key, metric in METRICS.items() if key not in ("logged", SUITE.key)}


def headline(row: Row) -> Metric:
    """The metric that a set is judged by where none is named: accuracy for a task, else loss."""
    return ACCURACY if row.get("task") is not None else LOSS


def best_by(metric: Metric, is_task: bool) -> Metric:
    """The metric that says which point of a curve of `metric` is the best within noise.

    On text, perplexity and bits per byte order checkpoints as the loss does, whose windows give the paired difference;
    on a task, accuracy above guessing does so as accuracy, whose items give it.
    """
    if is_task:
        return ACCURACY if metric.key == CENTERED else metric
    return LOSS if metric.key in ("ppl", BITS_PER_BYTE.key) else metric


def compared_metrics(row: Row) -> tuple[Metric, ...]:
    """The metrics that two results of a set are compared by."""
    if row.get("task") is None:
        return (LOSS,)
    return tuple(metric for metric in (ACCURACY, ACCURACY_NORM, BITS_PER_BYTE) if metric.value_of(row) is not None)


def _above_chance(row: Row) -> float | None:
    """1 - the random baseline, where that is known."""
    baseline = row.get("random_baseline")
    return None if baseline is None or baseline >= 1 else 1 - baseline
