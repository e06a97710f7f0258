"""The choice of the next token from logits: the likeliest, or one drawn with a seed.

Temperature, then top_k, then top_p, as in transformers' `generate`. A draw depends on the seed, the prompt and the
position alone: not on the device, the batch, the other prompts or the number of ranks.
"""

from __future__ import annotations

import hashlib
import random

import torch

from evalcore.sampling.spec import SampleSpec


class TokenChoice:
    """Chooses the tokens of one text. copy: number of equal prompts before this one, so that their texts differ."""

    def __init__(self, spec: SampleSpec, prompt: str, copy: int = 0) -> None:
        self._spec = spec
        name = f"{spec.seed}\n{copy}\n{prompt}".encode()
        self._draw = random.Random(int.from_bytes(hashlib.sha256(name).digest()))

    def next(self, logits: torch.Tensor) -> int | None:
        """The next token's id, of logits (V,); None where they are not finite (a token masked by -inf is allowed)."""
        logits = logits.double().cpu()
        if not bool(logits.max().isfinite()):  # NaN is the maximum where there is one
            return None
        if self._spec.temperature is None:
            return int(logits.argmax())
        chances = allowed_chances(logits, self._spec)
        edges = chances.cumsum(0)
        at = int(torch.searchsorted(edges, self._draw.random() * edges[-1], right=True))
        last = int(chances.nonzero()[-1])
        return min(at, last)


def allowed_chances(logits: torch.Tensor, spec: SampleSpec) -> torch.Tensor:
    """The probability of each token (V,), float64; 0 for those that top_k or top_p leaves out."""
    assert spec.temperature is not None
    logits = logits / spec.temperature
    if spec.top_k is not None and spec.top_k < len(logits):
        lowest = logits.topk(spec.top_k).values[-1]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    if spec.top_p is not None and spec.top_p < 1:
        ascending, order = logits.sort()
        left_out = ascending.softmax(0).cumsum(0) <= 1 - spec.top_p
        left_out[-1] = False
        logits = logits.masked_fill(torch.zeros_like(left_out).scatter(0, order, left_out), -torch.inf)
    return logits.softmax(0)
