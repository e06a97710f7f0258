"""The row of `task_items` behind a task's result: the packed scores of its items, and the standard errors over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evalcore.messages import Measurement
from evalcore.tasks.item_scores import ItemScoresError, packed_of_text, unpack

DAMAGED = "the scores of its items arrived damaged and are not kept"


def item_values(measured: Measurement) -> dict[str, Any] | None:
    """The columns of `task_items` without `result_id`; None for a loss, and for items that cannot be read."""
    if measured.task is None:
        return None
    try:
        packed = packed_of_text(measured.item_scores)
        scores = unpack(packed)
    except ItemScoresError:
        return None
    bits = [
        nats / (math.log(2) * size) for nats, size in zip(scores.gold_nats, scores.gold_bytes, strict=True) if size > 0
    ]
    return {
        "scores": packed,
        "accuracy_norm_stderr": _finite(measured.accuracy_norm_stderr),
        "bits_per_byte_stderr": standard_error(bits) if len(bits) == len(scores) else None,
        "ppl_item": _finite(measured.ppl_item),
    }


def standard_error(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1) over sqrt(n); None for fewer than two values or where one is not finite."""
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return None
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
