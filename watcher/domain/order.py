"""Which checkpoint next, where the order is not simply newest or oldest, and which of them the stride takes. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

NEWEST_MIN_S = 60.0
NEWEST_UNKNOWN_S = 300.0  # the interval that is assumed of a run with one checkpoint


def fill_order(waiting: Sequence[int], done: Iterable[int]) -> list[int]:
    """Steps coarse to fine: the newest, then always the waiting step nearest the middle of the widest gap.

    waiting: steps in the queue. done: steps that have (or are getting) their result. Every waiting step comes once.
    """
    left = sorted(set(waiting))
    known = sorted(set(done))
    order: list[int] = []
    while left:
        step = left[-1] if not known or left[-1] > known[-1] else _in_widest_gap(left, known)
        left.remove(step)
        known.insert(bisect_left(known, step), step)
        order.append(step)
        if len(order) >= 64:  # the caller asks again long before these are used up
            return order + left[::-1]
    return order


def _in_widest_gap(waiting: list[int], known: list[int]) -> int:
    best, best_width = waiting[0], -1
    edges = [waiting[0] - 1, *known]
    for low, high in itertools.pairwise(edges):
        first, last = bisect_left(waiting, low), bisect_left(waiting, high)
        if first == last or high - low <= best_width:
            continue
        middle = (low + high) / 2
        best = min(waiting[first:last], key=lambda step: (abs(step - middle), -step))
        best_width = high - low
    return best


def newest_is_due(saved_s: Sequence[float], now_s: float) -> bool:
    """Should the newest checkpoint be evaluated although the stride leaves it out?

    Yes once it seems to be the last one: no other has come for twice the longest recent interval between saves.
    saved_s: when the run's last checkpoints were saved, ascending, in seconds since the epoch.
    """
    if not saved_s:
        return False
    intervals = [later - earlier for earlier, later in itertools.pairwise(saved_s)]
    usual_s = max(intervals, default=NEWEST_UNKNOWN_S)
    return now_s - saved_s[-1] > max(2 * usual_s, NEWEST_MIN_S)


def wanted(step: int | None, every: int) -> bool:
    """Does the stride take this step? A checkpoint without a step is always taken."""
    return every <= 1 or step is None or step % every == 0
