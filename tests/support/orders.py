"""The whole order that the daemon takes when it asks for one step at a time."""

from __future__ import annotations

from collections.abc import Iterable

from watcher.domain.order import next_to_fill


def fill_order(waiting: Iterable[int], done: Iterable[int]) -> list[int]:
    """Coarse to fine: each step counts as done once it was taken."""
    left, known, order = set(waiting), set(done), []
    while left:
        order.append(next_to_fill(left, known))
        left.discard(order[-1])
        known.add(order[-1])
    return order
