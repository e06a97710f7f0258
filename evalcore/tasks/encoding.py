"""From items to requests: token ids with the region that is scored, by each of the three conventions.

Sources: EleutherAI/lm-evaluation-harness 4e7e0d4 (api/model.py), karpathy/build-nanogpt 6104ab1 (hellaswag.py),
karpathy/nanochat 92d63d4 (nanochat/core_eval.py). Owns where a scored region begins. Never cuts a request to a
context, never scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalcore.data.errors import DataError
from evalcore.data.tokenizers import Tokenizer
from evalcore.tasks.rendering import Item
from evalcore.tasks.spec import LANGUAGE_MODELING, SCHEMA, TaskSpec


@dataclass(frozen=True)
class Request:
    """tokens int32 (L,): context and continuation. start: first token of the scored region. whole_start: first token of
    the whole continuation, which for the gold choice is what loss and bits per byte are taken over."""

    tokens: np.ndarray
    start: int
    whole_start: int


@dataclass(frozen=True)
class EncodedItem:
    """requests: one for each choice. gold_bytes: of the gold continuation with its leading space, 0 where not known.
    lengths: characters of each choice, by which lm-eval normalises."""

    where: str
    index: int
    gold: int
    requests: tuple[Request, ...]
    gold_bytes: int
    lengths: tuple[int, ...]


class Encoder:
    """Encodes the items of one task. Raises DataError where the tokenizer lacks what the convention needs."""

    def __init__(self, spec: TaskSpec, tokenizer: Tokenizer) -> None:
        self._spec, self._tokenizer = spec, tokenizer
        self.notes: list[str] = [*tokenizer.notes]
        self._front = self._find_front()

    def encode(self, item: Item, shots: Sequence[Item] = ()) -> EncodedItem:
        """The requests of an item. shots: the examples before it (core alone). Raises DataError with file and line."""
        gold_text: str
        if self._spec.scoring == "core":
            requests, gold_text = self._core(item, shots)
        else:
            requests, gold_text = self._pairs(item)
        for number, request in enumerate(requests):
            if request.whole_start >= len(request.tokens):
                raise DataError(
                    f"{item.where}: choice {number} has no token of its own: it is part of the context's last token",
                    "correct the item, or use another scoring",
                )
            if min(request.start, request.whole_start) < 1:
                raise DataError(
                    f"{item.where} has an empty context, and tokenizer {self._tokenizer.name} has no "
                    "beginning-of-text token to put in its place",
                    "use a tokenizer that has one (`bytes+eos`, for bytes), or remove the item",
                )
        lengths = tuple(map(len, item.continuations if len(item.continuations) > 1 else item.contexts))
        return EncodedItem(item.where, item.index, item.gold, tuple(requests), len(gold_text.encode()), lengths)

    def _find_front(self) -> np.ndarray:
        """Ids before every text."""
        spec, tokenizer = self._spec, self._tokenizer
        wanted = spec.scoring == "core" if spec.bos is None else spec.bos
        if not wanted:
            leading = tokenizer.leading_ids if spec.bos is None and spec.scoring == "lm-eval" else ()
            return np.array(leading, dtype=np.int32)
        if tokenizer.bos_id is None:
            if spec.bos:
                raise DataError(
                    f"tokenizer {tokenizer.name} has no beginning-of-text token, which `bos` asks for",
                    "leave `bos` out, or use a tokenizer that has one",
                )
            self.notes.append(f"no beginning-of-text token before the prompts: tokenizer {tokenizer.name} has none")
            return np.empty(0, dtype=np.int32)
        return np.array([tokenizer.bos_id], dtype=np.int32)

    def _ids(self, text: str) -> np.ndarray:
        """A special token written out in an item is text to nanochat, and the token to lm-evaluation-harness."""
        if not text:
            return np.empty(0, dtype=np.int32)
        tokenizer = self._tokenizer
        encode = tokenizer.encode_ordinary if self._spec.scoring == "core" else tokenizer.encode
        return encode(text).astype(np.int32)

    def _whole(self, text: str) -> np.ndarray:
        ids = self._ids(text)
        if self._spec.scoring == "lm-eval" and len(self._front) and ids[:1].tolist() == [self._tokenizer.bos_id]:
            return ids  # a text that has the token written out gets no second one
        return np.concatenate((self._front, ids))

    def _pairs(self, item: Item) -> tuple[list[Request], str]:
        """Each (context, continuation) by itself: lm-eval and nanogpt."""
        n, many = item.n_choices, len(item.contexts) > 1
        requests = []
        for choice in range(n):
            context = item.contexts[choice if many else 0]
            continuation = self._spec.delimiter + item.continuations[0 if many else choice]
            if self._spec.scoring == "lm-eval":
                requests.append(self._harness_pair(context, continuation))
            else:
                before = self._whole(context) if context else self._empty_context()
                after = self._ids(continuation)
                requests.append(Request(np.concatenate((before, after)), len(before), len(before)))
        return requests, self._spec.delimiter + item.continuations[0 if many else item.gold]

    def _harness_pair(self, context: str, continuation: str) -> Request:
        """Trailing white space of the context moves to the continuation; both are encoded as one text."""
        bare = context.rstrip()
        continuation, context = context[len(bare) :] + continuation, bare
        if not context:
            before, after = self._empty_context(), self._ids(continuation)
            if len(after) and len(before) == 1 and after[0] == before[0]:
                after = after[1:]
            return Request(np.concatenate((before, after)), len(before), len(before))
        start = len(self._whole(context))
        return Request(self._whole(context + continuation), start, start)

    def _empty_context(self) -> np.ndarray:
        """What stands for an empty context: the beginning-of-text token, where there is one."""
        if len(self._front) or self._tokenizer.bos_id is None:
            return self._front
        return np.array([self._tokenizer.bos_id], dtype=np.int32)

    def _core(self, item: Item, shots: Sequence[Item]) -> tuple[list[Request], str]:
        """Whole prompts; the region is what the choices do not share (schema: what they do share, at the end)."""
        delimiter = self._spec.delimiter
        trimmed = self._spec.kind == LANGUAGE_MODELING
        examples = "".join(_example(shot, delimiter, trimmed) + "\n\n" for shot in shots)
        prompts = []
        for choice in range(item.n_choices):
            context = item.contexts[choice if len(item.contexts) > 1 else 0]
            context = context.strip() if trimmed else context
            continuation = item.continuations[choice if len(item.continuations) > 1 else 0]
            prompts.append((examples + context + delimiter, continuation))
        wholes = [self._whole(before + after) for before, after in prompts]
        if trimmed:
            return self._core_language(item, *prompts[0], wholes[0])
        befores = [before.rstrip(" ") for before, _ in prompts]
        # encoded once where all choices have one context
        encoded = {before: self._whole(before) for before in set(befores)}
        whole_starts = [_common([encoded[before], whole]) for before, whole in zip(befores, wholes, strict=True)]
        if self._spec.kind == SCHEMA:
            shared = _common([whole[::-1] for whole in wholes])
            starts = [len(whole) - shared for whole in wholes]
        else:
            starts = [_common(wholes)] * len(wholes)
        requests = [Request(*fields) for fields in zip(wholes, starts, whole_starts, strict=True)]
        return requests, delimiter[len(delimiter.rstrip(" ")) :] + prompts[item.gold][1]

    def _core_language(self, item: Item, before: str, after: str, whole: np.ndarray) -> tuple[list[Request], str]:
        bare = before.strip()
        start = len(self._whole(bare))
        if not np.array_equal(self._whole(bare), whole[:start]):
            raise DataError(
                f"{item.where}: the tokens of the context are not the first tokens of context and continuation",
                "correct the item, or use scoring 'lm-eval'",
            )
        return [Request(whole, start, start)], (before + after)[len(bare) :]


def _example(shot: Item, delimiter: str, trimmed: bool) -> str:
    context = shot.contexts[shot.gold if len(shot.contexts) > 1 else 0]
    continuation = shot.continuations[shot.gold if len(shot.continuations) > 1 else 0]
    return (context.strip() if trimmed else context) + delimiter + continuation


def _common(sequences: Sequence[np.ndarray]) -> int:
    """Length of the longest common prefix."""
    shortest = min(map(len, sequences))
    first = sequences[0][:shortest]
    differ = np.zeros(shortest, dtype=bool)
    for other in sequences[1:]:
        differ |= first != other[:shortest]
    return int(differ.argmax()) if differ.any() else shortest
