"""Prompts as token ids and generated ids as text, with the checks that tokenizer and model belong together.

Owns what stands before a prompt and where a text ends. Never runs a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalcore.data.errors import DataError
from evalcore.data.tokenizers import SPECIAL, Tokenizer

#: Up to this many ids beyond the tokenizer's are padding of the model's vocabulary; more mean another tokenizer.
PADDING_MAX = 1024
NANOCHAT = "nanochat"


@dataclass(frozen=True)
class Prompt:
    """ids: what the model reads, cut to its context. cut: ids that are left out at the beginning."""

    text: str
    ids: tuple[int, ...]
    cut: int


def no_tokenizer(where: str) -> DataError:
    return DataError(
        f"no tokenizer is known for {where}, which has no tokenizer.json of its own",
        "name the one that it was trained with: --tokenizer gpt2, bytes or a file; `tokenizer` in [[sample]]",
    )


def refuse_other_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise DataError where the tokenizer cannot be the one that the model was trained with."""
    table = tokenizer.id_bytes()
    ordinary = tokenizer.vocab_size if table is None else 1 + max((table != SPECIAL).nonzero()[0].tolist(), default=0)
    if ordinary > vocab_size or vocab_size > tokenizer.vocab_size + PADDING_MAX:
        raise DataError(
            f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids and the model {vocab_size}: it was trained "
            "with another tokenizer",
            "name the tokenizer of the training with --tokenizer, or `tokenizer` in [[sample]]",
            kind="shape",
        )


def front_ids(tokenizer: Tokenizer, family: str) -> tuple[int, ...]:
    """Ids before every prompt: what the tokenizer's own configuration puts there; `<|bos|>` for nanochat, whose texts
    all begin with it (karpathy/nanochat 92d63d4, base_train's samples)."""
    if family == NANOCHAT and not tokenizer.leading_ids and tokenizer.bos_id is not None:
        return (tokenizer.bos_id,)
    return tokenizer.leading_ids


def encode_prompt(
    text: str, tokenizer: Tokenizer, vocab_size: int, context_length: int | None, family: str = ""
) -> Prompt:
    """An empty prompt is the beginning of a text. Raises DataError for ids that the model does not have, and for an
    empty prompt where the tokenizer has no token that begins a text."""
    front = front_ids(tokenizer, family)
    ids = [*front, *(int(index) for index in tokenizer.encode(text))] if text else [*front]
    if not ids and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id]
    if not ids:
        raise DataError(
            f"the prompt is empty, and tokenizer {tokenizer.name} has no token that begins a text",
            "give a prompt of one character at least",
        )
    if max(ids) >= vocab_size:
        raise DataError(
            f"prompt {text[:40]!r} has token id {max(ids)}, and the model's vocabulary is {vocab_size}",
            "name the tokenizer of the training with --tokenizer, or `tokenizer` in [[sample]]",
            kind="shape",
        )
    cut = 0 if context_length is None else max(0, len(ids) - context_length)
    return Prompt(text, tuple(ids[cut:]), cut)


def continuation(prompt: Prompt, generated: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of generated ids behind their prompt: SentencePiece drops the space that begins a text by itself."""
    before = tokenizer.decode(prompt.ids)
    whole = tokenizer.decode((*prompt.ids, *generated))
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(generated)


def ends_of_text(config: dict[str, Any] | None, folder: str, tokenizer: Tokenizer, family: str = "") -> frozenset[int]:
    """Ids that end a text: `eos_token_id` of the folder's generation_config.json, else of the configuration; nanochat's
    engine ends at `<|assistant_end|>` and `<|bos|>`.

    Empty where there is none: nanoGPT's `generate` goes on past the end of a text.
    """
    if family == NANOCHAT and tokenizer.bos_id is not None:
        last = [int(index) for index in tokenizer.encode("<|assistant_end|>")]
        return frozenset([tokenizer.bos_id, *(last if len(last) == 1 else ())])
    try:
        with open(os.path.join(folder, "generation_config.json"), encoding="utf-8") as file:
            own = json.load(file)
    except (OSError, ValueError, RecursionError):
        own = None
    for place in (own, config):
        value = place.get("eos_token_id") if isinstance(place, dict) else None
        ids = value if isinstance(value, list) else [value]
        if found := frozenset(index for index in ids if type(index) is int and index >= 0):
            return found
    return frozenset()
