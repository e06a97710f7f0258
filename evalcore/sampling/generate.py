"""The loop that generates one text: the whole context again for every token, one prompt at a time.

Owns the crop to the context and the end of a text. Never encodes, never decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from evalcore.measure.scorer import Scorer
from evalcore.sampling.choice import TokenChoice

LENGTH, END_OF_TEXT, STOPPED, NOT_FINITE = "length", "end_of_text", "stopped", "not_finite"


@dataclass(frozen=True)
class Generated:
    """tokens: without the prompt, and without the end-of-text token. ended: one of the four above."""

    tokens: tuple[int, ...]
    ended: str


def generate(
    scorer: Scorer,
    prompt: Sequence[int],
    max_new_tokens: int,
    choice: TokenChoice,
    context_length: int | None = None,
    ends: Collection[int] = (),
    may_go_on: Callable[[], bool] = lambda: True,
) -> Generated:
    """Generate inside `scorer.running()`. prompt: at least one id. ends: ids that end a text. may_go_on: asked before
    each token. Of a text longer than context_length the model reads the last context_length tokens, as nanoGPT's
    `generate` does."""
    tokens = list(prompt)
    for _ in range(max_new_tokens):
        if not may_go_on():
            return Generated(tuple(tokens[len(prompt) :]), STOPPED)
        window = tokens if context_length is None else tokens[-context_length:]
        logits = scorer.last_logits(torch.tensor([window], dtype=torch.int64, device=scorer.device))
        token = choice.next(logits)
        if token is None or token in ends:
            return Generated(tuple(tokens[len(prompt) :]), NOT_FINITE if token is None else END_OF_TEXT)
        tokens.append(token)
    return Generated(tuple(tokens[len(prompt) :]), LENGTH)
