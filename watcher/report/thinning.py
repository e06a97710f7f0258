"""How many points of a panel a browser gets, and which of a long curve: for the dashboard and HTML plots. Pure."""

from __future__ import annotations

from collections.abc import Sequence

POINTS_OF_PANEL = 12_000  # of all its curves together: what a browser draws in a frame
POINTS_MIN, POINTS_MAX = 40, 2000  # of one curve


def points_of_each(curves: int) -> int:
    """Points per curve of a panel with this number of curves."""
    return min(POINTS_MAX, max(POINTS_MIN, POINTS_OF_PANEL // max(curves, 1)))


def thinned(places: Sequence[int], values: Sequence[float | None], points_max: int) -> Sequence[int]:
    """At most about `points_max` of these places, in order: the lowest and highest of each bucket, first and last."""
    if len(places) <= points_max:
        return places
    width = -(-2 * len(places) // points_max)
    keep = {0, len(places) - 1}
    for start in range(0, len(places), width):
        bucket = range(start, min(start + width, len(places)))
        keep |= {min(bucket, key=lambda n: values[places[n]]), max(bucket, key=lambda n: values[places[n]])}  # type: ignore[arg-type, return-value]
    return [places[n] for n in sorted(keep)]
