"""How the metrics of watcher.domain.metrics are shown: labels of one set, and the words for the band. Pure."""

from __future__ import annotations

from watcher.domain.metrics import METRICS as METRICS
from watcher.domain.metrics import Metric as Metric

BAND_WORDS = (
    "Band: 95 % confidence interval (1.96 standard errors over the documents, windows or items of the set to each "
    "side): how far the value would move on another sample of such text."
)


def label_of(metric: Metric, is_task: bool) -> str:
    """The label for one set: of a task, loss and bits per byte are those of the gold answer."""
    if is_task and metric.key in ("loss", "bits_per_byte"):
        return f"{metric.label} of the gold answer"
    return metric.label
