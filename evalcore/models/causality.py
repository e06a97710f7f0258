"""Whether a model's logits depend on later tokens: then its loss does not measure the prediction of the next token.

Owns the probe. Decides nothing: a model that transformers builds, and one by a factory, refuse at their own place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PROBE_TOKENS = 8
#: of the largest logit; the same forward pass on the same prefix differs by float32's rounding alone
_TOLERANCE = 1e-4


def sees_later_tokens(logits: Callable[[Tensor], Tensor], vocab_size: int, length: int, device: str) -> bool:
    """Whether another last token changes logits of earlier positions. logits: tokens (1, T) -> (1, T, V).

    Two passes over distinct tokens from the middle of the vocabulary: a model may leave out the ids of padding, which
    are at its ends. False where the logits are not finite: a diverged model is a result.
    """
    if length < 2 or vocab_size < 2:
        return False
    tokens = ((torch.arange(length, device=device) + vocab_size // 2) % vocab_size)[None]
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % vocab_size
    with torch.inference_mode():
        first, second = logits(tokens)[0, :-1], logits(other)[0, :-1]
    return bool((first - second).abs().max() > _TOLERANCE * max(1.0, first.abs().max().item()))
