"""From summed nats to what the results table shows: perplexity, bits per byte, standard errors. Pure arithmetic."""

from __future__ import annotations

import math

import numpy as np

#: With fewer documents than this the spread over windows is used: a sample of a few documents is too small.
MIN_DOCUMENTS = 10


def perplexity(loss: float) -> tuple[float | None, str | None]:
    """exp(loss), or None and the reason where it is no finite number."""
    if math.isnan(loss):
        return None, "ppl: the loss is NaN"
    try:
        ppl = math.exp(loss)
    except OverflowError:
        return None, f"ppl: exp({loss:.6g}) is above the float range"
    return (ppl, None) if math.isfinite(ppl) else (None, "ppl: the loss is infinite")


def bits_per_byte(nats: float, n_bytes: int) -> float | None:
    """nats / (ln 2 * bytes); None where there are no bytes or the sum is not finite."""
    if n_bytes <= 0 or not math.isfinite(nats):
        return None
    return nats / (math.log(2) * n_bytes)


def standard_error(nats: np.ndarray, targets: np.ndarray) -> float | None:
    """Standard error of sum(nats) / sum(targets), the groups being the sample (windows or documents).

    nats, targets: float64 and int (groups,). The ratio estimator's linearised variance with the factor G / (G - 1);
    see Cochran, Sampling Techniques, 6.4. None for fewer than two groups or anything not finite.
    """
    groups = len(nats)
    total = float(targets.sum())
    if groups < 2 or total <= 0:
        return None
    residuals = nats - (math.fsum(nats) / total) * targets
    variance = groups / (groups - 1) * math.fsum(residuals * residuals) / total**2
    return math.sqrt(variance) if math.isfinite(variance) else None
