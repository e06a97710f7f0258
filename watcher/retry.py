"""How long to wait before another attempt. Pure: chance comes in as an argument."""

from __future__ import annotations

BACKOFF_FACTOR = 4
BACKOFF_MAX_S = 1800.0
JITTER = 0.2


def backoff_s(first_s: float, charged: int, chance: float) -> float:
    """first_s * 4^(charged-1), at most 30 min, spread by up to 20 % so that jobs do not return all at once.

    charged: attempts that counted so far, at least 1. chance: uniform in [0, 1).
    """
    exponent = min(charged - 1, 16)
    pause = min(first_s * BACKOFF_FACTOR**exponent, BACKOFF_MAX_S)
    return min(pause * (1 + JITTER * (2 * chance - 1)), BACKOFF_MAX_S)
