"""The texts of one checkpoint: every prompt by itself, in order, so that none depends on the others.

Owns `sample` and the time limit of a checkpoint. Never loads a checkpoint, never writes a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from evalcore.data.tokenizers import Tokenizer
from evalcore.measure.scorer import Scorer, resolve_dtype
from evalcore.messages import SampleText
from evalcore.sampling.choice import TokenChoice
from evalcore.sampling.generate import NOT_FINITE, STOPPED, Generated, generate
from evalcore.sampling.prompts import Prompt, continuation, encode_prompt, ends_of_text, refuse_other_tokenizer
from evalcore.sampling.spec import SampleSpec


class Interrupted(Exception):
    """`interrupted` said so: nothing of the texts is kept."""


@dataclass(frozen=True)
class SampleRun:
    """One model with the tokenizer and the rules of its texts. folder: of the checkpoint, with generation_config.json.

    vocab_size, context_length, family: as in LoadedModel. interrupted: asked before each token; True ends it all.
    """

    model: Any
    vocab_size: int
    context_length: int | None
    config: dict[str, Any] | None
    tokenizer: Tokenizer
    device: torch.device
    folder: str = ""
    family: str = ""
    dtype: str = "auto"
    on_progress: Callable[[int, int], None] = lambda done, total: None
    interrupted: Callable[[], bool] = lambda: False

    def texts(self, spec: SampleSpec) -> tuple[SampleText, ...]:
        """A text for each prompt. Raises DataError where tokenizer and model do not belong together, Interrupted."""
        refuse_other_tokenizer(self.tokenizer, self.vocab_size)
        facts = (self.tokenizer, self.vocab_size, self.context_length, self.family)
        prompts = [encode_prompt(text, *facts) for text in spec.prompts]
        ends = ends_of_text(self.config, self.folder, self.tokenizer, self.family)
        scorer = Scorer(self.model, self.device, resolve_dtype(self.dtype, self.device))
        until_s = time.monotonic() + spec.timeout_s
        total = spec.max_new_tokens * len(prompts)
        made: list[SampleText] = []
        asked = 0

        def may_go_on() -> bool:
            nonlocal asked
            if self.interrupted():
                raise Interrupted
            self.on_progress(len(made) * spec.max_new_tokens + asked, total)
            asked += 1
            return time.monotonic() < until_s

        with scorer.running():
            for number, prompt in enumerate(prompts):
                asked = 0
                choice = TokenChoice(spec, prompt.text, copy=spec.prompts[:number].count(prompt.text))
                limits = (spec.max_new_tokens, choice, self.context_length, ends)
                made.append(self._text(prompt, generate(scorer, prompt.ids, *limits, may_go_on), spec))
        return tuple(made)

    def _text(self, prompt: Prompt, generated: Generated, spec: SampleSpec) -> SampleText:
        count = len(generated.tokens)
        notes = [*self.tokenizer.notes]
        if prompt.cut:
            notes.append(
                f"the prompt has {prompt.cut + len(prompt.ids)} tokens: the model reads the last {len(prompt.ids)}"
            )
        if generated.ended == STOPPED:
            notes.append(f"stopped after {spec.timeout_s:g} s, at token {count} of {spec.max_new_tokens}")
        if generated.ended == NOT_FINITE:
            notes.append(f"the model's logits are not finite after {count} tokens")
        text = continuation(prompt, generated.tokens, self.tokenizer)
        return SampleText(prompt.text, text, generated.tokens, generated.ended, "; ".join(notes) or None)
