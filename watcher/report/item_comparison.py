"""The paired comparison of two checkpoints on the items of a task, and which items flipped. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evalcore.tasks.item_scores import ItemScores
from watcher.domain.metrics import ACCURACY, ACCURACY_NORM, BITS_PER_BYTE, Metric
from watcher.report.difference import Difference, NotComparable, difference_of

Row = dict[str, Any]


class Items(Protocol):
    """Result id -> scores of its items; None where none are kept. A dict will do."""

    def get(self, result_id: int, /) -> ItemScores | None: ...


@dataclass(frozen=True)
class Flip:
    """An item that one of two checkpoints answers correctly. place: in the columns of the item scores."""

    place: int
    gained: bool


def compare_items(metric: Metric, a: ItemScores, b: ItemScores) -> Difference | NotComparable:
    """metric(b) - metric(a) over the same items: shares for accuracies, bits per byte for the gold answers.

    The interval is that of the mean of paired differences with n - 1 degrees of freedom. p is McNemar's exact one for
    accuracies, else that of the t statistic. Sources: McNemar, Psychometrika 12 (1947); Miller, "Adding Error Bars to
    Evals" (2024), 4.2.
    """
    if list(a.index) != list(b.index) or list(a.gold) != list(b.gold):
        return NotComparable("they were scored on different items")
    if metric in (ACCURACY, ACCURACY_NORM):
        left, right = _correct(metric, a), _correct(metric, b)
        gained = sum(1 for x, y in zip(left, right, strict=True) if y > x)
        lost = sum(1 for x, y in zip(left, right, strict=True) if x > y)
        difference = _mean_difference(left, right, "McNemar")
        if isinstance(difference, NotComparable):
            return difference
        return Difference(**{**difference.__dict__, "p": mcnemar(gained, lost), "gained": gained, "lost": lost})
    if metric != BITS_PER_BYTE:
        return NotComparable(f"{metric.key} has no value for each item")
    if 0 in a.gold_bytes:
        return NotComparable("the bytes of the answers are not known")
    return _mean_difference(item_bits(a), item_bits(b), "paired")


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p: as many flips as these, each way with probability 1/2, split at least as unevenly."""
    flips, fewer = gained + lost, min(gained, lost)
    term = total = 1
    for count in range(fewer):
        term = term * (flips - count) // (count + 1)
        total += term
    return min(1.0, 2 * total / 2**flips)


def flips(metric: Metric, a: ItemScores, b: ItemScores) -> list[Flip]:
    """The items that only one of the two answers correctly, in the order of the file."""
    pairs = zip(_correct(metric, a), _correct(metric, b), strict=True)
    return [Flip(place, right > left) for place, (left, right) in enumerate(pairs) if left != right]


def item_bits(scores: ItemScores) -> list[float]:
    """Bits per byte of each gold answer; NaN where its bytes are not known."""
    return [
        nats / (math.log(2) * size) if size else math.nan
        for nats, size in zip(scores.gold_nats, scores.gold_bytes, strict=True)
    ]


def _correct(metric: Metric, scores: ItemScores) -> Sequence[int]:
    return scores.correct_norm if metric == ACCURACY_NORM else scores.correct


def _mean_difference(a: Sequence[float], b: Sequence[float], method: str) -> Difference | NotComparable:
    count = len(a)
    differences = [y - x for x, y in zip(a, b, strict=True)]
    if count < 2 or not all(map(math.isfinite, differences)):
        return NotComparable("there are fewer than two items" if count < 2 else "an item has no finite score")
    mean = math.fsum(differences) / count
    squares = math.fsum((value - mean) ** 2 for value in differences)
    return difference_of(mean, math.sqrt(squares / (count - 1) / count), count - 1, count, method)
