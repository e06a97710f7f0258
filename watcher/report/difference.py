"""The difference of a metric between two results: value, interval, p. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from watcher.report.student_t import quantile, two_sided_p

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """value(b) - value(a) in the metric's unit, with its 95 % interval and two-sided p.

    method: `paired` or `McNemar` over `windows` (of a task: items), or `unpaired` from the two standard errors where
    neither is kept. gained, lost: items that only b, only a answers correctly; None for other metrics.
    """

    difference: float
    stderr: float
    low: float
    high: float
    p: float
    windows: int
    method: str
    gained: int | None = None
    lost: int | None = None

    @property
    def significant(self) -> bool:
        """At 95 %."""
        return self.p < 1 - CONFIDENCE


@dataclass(frozen=True)
class NotComparable:
    """Why the two cannot be compared."""

    why: str


def difference_of(value: float, stderr: float, freedom: float, windows: int, method: str) -> Difference:
    """With Student's t distribution of `freedom` degrees of freedom; the normal distribution where that is infinite."""
    if stderr == 0:
        p = 1.0 if value == 0 else 0.0
        return Difference(value, 0.0, value, value, p, windows, method)
    t = value / stderr
    if math.isinf(freedom):
        p, critical = math.erfc(abs(t) / math.sqrt(2)), 1.959963984540054
    else:
        p, critical = two_sided_p(t, freedom), quantile(CONFIDENCE, freedom)
    return Difference(value, stderr, value - critical * stderr, value + critical * stderr, p, windows, method)
