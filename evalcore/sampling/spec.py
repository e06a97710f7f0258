"""Description of samples: the prompts and how tokens are chosen. Standard library only: the settings use it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

GREEDY, SAMPLED = "greedy", "sampled"
PROMPTS_MAX = 100
PROMPT_MAX_CHARACTERS = 100_000
NEW_TOKENS_MAX = 100_000
DEFAULT_NEW_TOKENS = 64
DEFAULT_TIMEOUT_S = 300.0
TIMEOUT_MAX_S = 1800.0  # the other ranks of a launch wait meanwhile, in a collective of one hour at most


@dataclass(frozen=True)
class SampleSpec:
    """temperature: None is greedy (the likeliest token each time); then top_k, top_p and seed are None.

    top_k: draw among the k likeliest tokens. top_p: among the smallest set of likeliest tokens whose probabilities add
    up to at least p. timeout_s: seconds for all prompts of one checkpoint; it cuts texts short and is no part of
    the digest.
    """

    prompts: tuple[str, ...]
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def mode(self) -> str:
        return GREEDY if self.temperature is None else SAMPLED

    def declared(self) -> dict[str, Any]:
        """What changes a text, for the digest."""
        fields = dataclasses.asdict(self)
        del fields["timeout_s"]
        return fields


def sample_spec(
    prompts: tuple[str, ...],
    *,
    max_new_tokens: int = DEFAULT_NEW_TOKENS,
    greedy: bool = False,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> SampleSpec:
    """The description with its defaults: greedy, unless temperature, top_k or top_p is given; then temperature 1,
    seed 0. Raises ValueError, with a sentence, for what contradicts or is out of range."""
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = [name for name, value in drawn.items() if value is not None]
    if greedy and given:
        raise ValueError(f"{given[0]} has no effect on greedy texts: leave one of the two out")
    if not given:
        if seed is not None:
            raise ValueError("seed has no effect on greedy texts: give temperature, or leave seed out")
        spec = SampleSpec(prompts, max_new_tokens, timeout_s=timeout_s)
    else:
        temperature = 1.0 if temperature is None else temperature
        spec = SampleSpec(prompts, max_new_tokens, temperature, top_k, top_p, seed or 0, timeout_s)
    if (problem := problem_of(spec)) is not None:
        raise ValueError(problem)
    return spec


def problem_of(spec: SampleSpec) -> str | None:
    """Why nothing can be generated like this, as a sentence with a remedy; None where it can."""
    if not 1 <= len(spec.prompts) <= PROMPTS_MAX:
        return f"there are {len(spec.prompts)} prompts; give 1 to {PROMPTS_MAX}"
    for number, prompt in enumerate(spec.prompts, 1):
        if len(prompt) > PROMPT_MAX_CHARACTERS:
            return f"prompt {number} has {len(prompt)} characters; at most {PROMPT_MAX_CHARACTERS} are allowed"
        try:
            prompt.encode()
        except UnicodeEncodeError:
            return f"prompt {number} holds half a surrogate pair, which is no text: write the character itself"
    if not 1 <= spec.max_new_tokens <= NEW_TOKENS_MAX:
        return f"max_new_tokens is {spec.max_new_tokens}; it must be between 1 and {NEW_TOKENS_MAX}"
    if spec.temperature is not None and not (math.isfinite(spec.temperature) and spec.temperature > 0):
        return f"temperature is {spec.temperature}; it must be above 0: leave it out for greedy texts"
    if spec.top_k is not None and spec.top_k < 1:
        return f"top_k is {spec.top_k}; it must be at least 1"
    if spec.top_p is not None and not 0 < spec.top_p <= 1:
        return f"top_p is {spec.top_p}; it must be above 0 and at most 1"
    if spec.seed is not None and not 0 <= spec.seed < 1 << 63:
        return f"seed is {spec.seed}; it must be a whole number from 0, below 2^63"
    if not 0 < spec.timeout_s <= TIMEOUT_MAX_S:
        return f"timeout_s is {spec.timeout_s}; it must be above 0 and at most {TIMEOUT_MAX_S:g}"
    return None
