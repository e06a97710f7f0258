"""Weights of the members of a mean, the newest first. Standard library only: the daemon imports it, too."""

from __future__ import annotations

#: A checkpoint whose weight in an exponential mean is below this is left out.
EMA_WEIGHT_MIN = 1e-4


def equal_weights(count: int) -> list[float]:
    return [1 / count] * count


def ema_weights(decay: float, count: int) -> list[float]:
    """Of at most `count` checkpoints: d^i (1 - d) down to EMA_WEIGHT_MIN, divided by their sum."""
    raw: list[float] = []
    weight = 1 - decay
    while len(raw) < count and (weight >= EMA_WEIGHT_MIN or not raw):
        raw.append(weight)
        weight *= decay
    return [weight / sum(raw) for weight in raw]
