"""The aggregate of a suite of tasks: the mean of accuracy above chance, and its standard error. Standard library only.

Source of the mean: nanochat 92d63d4 (scripts/base_eval.py, the CORE metric). The tasks have different items, so their
errors are independent, and the variance of a sum is the sum of the variances (Bienaymé's identity).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def above_chance(value: float | None, baseline: float | None, *, is_error: bool = False) -> float | None:
    """(accuracy - baseline) / (1 - baseline), or the standard error of that: error / (1 - baseline)."""
    if value is None or baseline is None or baseline >= 1:
        return None
    return (value - (0.0 if is_error else baseline)) / (1 - baseline)


def mean_of(values: Sequence[float]) -> float:
    """The unweighted mean over the tasks: a task of 100 items counts as much as one of 10,000."""
    return math.fsum(values) / len(values)


def error_of_mean(errors: Sequence[float | None]) -> float | None:
    """sqrt(sum of squared standard errors) / n; None where a task has no standard error.

    It covers which items a task happened to have, not which tasks a suite happens to have.
    """
    known = [error for error in errors if error is not None and math.isfinite(error)]
    if len(known) < len(errors) or not known:
        return None
    return math.sqrt(math.fsum(error * error for error in known)) / len(errors)
