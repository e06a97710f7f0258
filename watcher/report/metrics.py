"""The metrics that curves are drawn of: label, direction, columns of `results`, the 95 % band of one value. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

BAND_SIGMAS = 1.959963984540054  # 95 % of a normal distribution
BAND_WORDS = (
    "Band: 95 % confidence interval of the value, 1.96 standard errors to each side. The standard error is over the "
    "documents or windows of the set (items of a task): how far the value would move on another sample of such text."
)
_EXP_MAX = 700.0


@dataclass(frozen=True)
class Metric:
    """key: the name in addresses and flags. value, stderr: columns of `results`, or None where there is no error."""

    key: str
    label: str
    value: str
    stderr: str | None
    higher_is_better: bool = False
    of_tasks: bool = False

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


METRICS = {
    metric.key: metric
    for metric in (
        Metric("loss", "loss (nats per token)", "loss", "loss_stderr"),
        Metric("ppl", "perplexity", "ppl", "loss_stderr"),
        Metric("bits_per_byte", "bits per byte", "bits_per_byte", "bits_per_byte_stderr"),
        Metric("accuracy", "accuracy", "accuracy", "accuracy_stderr", True, True),
        Metric("accuracy_norm", "accuracy, length-normalised", "accuracy_norm", "accuracy_norm_stderr", True, True),
        Metric(
            "accuracy_centered", "accuracy above guessing", "accuracy_centered", "accuracy_centered_stderr", True, True
        ),
        Metric("ppl_item", "perplexity per item", "ppl_item", None, False, True),
        Metric("logged", "loss logged by the trainer", "logged_val_loss", None),
    )
}


def label_of(metric: Metric, is_task: bool) -> str:
    """The label for one set: of a task, loss and bits per byte are those of the gold answer."""
    if is_task and metric.key in ("loss", "bits_per_byte"):
        return f"{metric.label} of the gold answer"
    return metric.label
