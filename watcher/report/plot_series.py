"""Curves as numbers to draw: x, y, 95 % band, the loss logged by the trainer, the best point, diverged steps. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from watcher.domain.checkpoint import printable
from watcher.domain.timestamps import seconds
from watcher.report.curves import Curve, Row
from watcher.report.format import integer, short_integer

AXES = {"step": "step", "tokens": "tokens seen", "time": "hours since the first checkpoint"}
VALUES = {"loss": "loss (nats per token)", "ppl": "perplexity", "bits_per_byte": "bits per byte"}
BAND_SIGMAS = 1.959963984540054  # 95 % of a normal distribution


@dataclass(frozen=True)
class Series:
    """One curve. low, high: the 95 % band, as long as xs, or empty. logged: the trainer's own loss, (x, y) pairs.

    best: the earliest point as good as the lowest. diverged: the xs at which the value is not finite.
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    logged: tuple[tuple[float, float], ...] = ()
    best: tuple[float, float] | None = None
    diverged: tuple[float, ...] = ()


def series_of(curves: Sequence[Curve], x: str = "step", y: str = "loss") -> list[Series]:
    """x: a key of AXES, y: a key of VALUES. Curves that have nothing on these axes are left out."""
    every = [_series(curve, x, y) for curve in curves]
    return [series for series in every if series.xs or series.diverged]


def _series(curve: Curve, x: str, y: str) -> Series:
    start_s = min((seconds(row["saved_at"]) for row in curve.rows), default=0.0)
    placed = [(at, row) for row in curve.rows if (at := _x_of(row, x, start_s)) is not None]
    placed.sort(key=lambda pair: pair[0])
    drawn = [(at, row) for at, row in placed if row[y] is not None]
    band = [band_of(row["loss"], row["loss_stderr"], y) for _, row in drawn]
    whole = all(edge is not None for edge in band)
    logged = [(at, _logged(row, y)) for at, row in placed]
    best = next(((at, row[y]) for at, row in drawn if row is curve.best), None)
    return Series(
        printable(curve.name),
        tuple(at for at, _ in drawn),
        tuple(row[y] for _, row in drawn),
        tuple(edge[0] for edge in band if edge) if whole else (),
        tuple(edge[1] for edge in band if edge) if whole else (),
        tuple((at, value) for at, value in logged if value is not None),
        best,
        tuple(at for at, row in placed if row[y] is None and not (y == "bits_per_byte" and row["finite"])),
    )


def _x_of(row: Row, x: str, start_s: float) -> float | None:
    if x == "step":
        return row["step"]
    if x == "tokens":
        return row["tokens_seen"]
    return (seconds(row["saved_at"]) - start_s) / 3600


def place_words(at: float, x: str) -> str:
    """`step 29,000`, `1.2B tokens`, `3.5 hours`: a place on an axis of AXES."""
    if x == "tokens":
        return f"{short_integer(at)} tokens"
    return f"step {integer(at)}" if x == "step" else f"{at:.3g} hours"


def band_of(loss: float | None, stderr: float | None, y: str = "loss") -> tuple[float, float] | None:
    """The 95 % band of one point; None where there is no standard error."""
    if loss is None or stderr is None or y == "bits_per_byte":
        return None
    low, high = loss - BAND_SIGMAS * stderr, loss + BAND_SIGMAS * stderr
    if y == "loss":
        return low, high
    return math.exp(low), math.exp(min(high, 700.0))


def _logged(row: Row, y: str) -> float | None:
    loss = row["logged_val_loss"]
    if loss is None or not math.isfinite(loss) or y == "bits_per_byte":
        return None
    if y == "ppl":
        return math.exp(loss) if loss < 700 else None
    return loss
