"""Which checkpoint next, where the order is not simply newest or oldest, and which of them the stride takes. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

NEWEST_MIN_S = 60.0
NEWEST_UNKNOWN_S = 300.0  # the interval that is assumed of a run with one checkpoint


def next_to_fill(waiting: Iterable[int], done: Iterable[int]) -> int:
    """The step that comes next from coarse to fine: the newest, then the one nearest the middle of the widest gap.

    waiting: steps in the queue, one at least. done: steps that have (or are getting) their result.
    """
    left, known = sorted(set(waiting)), sorted(set(done))
    if not known or left[-1] >= known[-1]:  # equal: the step waits for one more eval set
        return left[-1]
    low, high = _widest_gap(left, [left[0] - 1, *known])
    middle = (low + high) / 2
    at = bisect_left(left, middle)
    near = left[max(at - 1, bisect_left(left, low)) : min(at + 1, bisect_left(left, high))]
    return min(near, key=lambda step: (abs(step - middle), -step))


def _widest_gap(waiting: list[int], edges: list[int]) -> tuple[int, int]:
    """(low, high) of the widest stretch between two edges in which a step waits; the first one where two are alike."""
    best = (edges[0], edges[0])
    for low, high in itertools.pairwise(edges):
        if high - low > best[1] - best[0] and bisect_left(waiting, low) < bisect_left(waiting, high):
            best = (low, high)
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
