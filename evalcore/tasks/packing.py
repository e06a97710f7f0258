"""From requests to batches: cut to the context, the shared beginning of an item's choices once, alike lengths together.

Owns the layout of a sequence with branches. Pure arithmetic on token ids; never runs a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalcore.data.errors import DataError
from evalcore.tasks.encoding import EncodedItem, Request

#: Branches pay where they leave out at least this share of the tokens.
_WORTH_SHARING = 0.1
#: A batch with this share of its tokens ends where the next sequence would bring padding above the second share: a
#: quarter of 2,048 tokens multiplies as fast as all of them, and padding is computed for nothing.
_ENOUGH, _PADDING = 0.25, 0.04


@dataclass(frozen=True)
class CutRequest:
    """A request as the model gets it: tokens[:-1] are inputs. number: over all requests of the task. first: the first
    token whose nats are wanted; start and whole_start: as in Request, after the cut."""

    number: int
    tokens: np.ndarray
    first: int
    start: int
    whole_start: int


@dataclass(frozen=True)
class PackedSequence:
    """One row of a batch. inputs, positions, branch (L,): branch 0 is the shared beginning, then one for each choice.

    rows: places in `inputs` whose next token is scored; targets: that token; owner: number of the request.
    in_region, in_whole: whether the target counts for the score of the choice, and for the gold continuation.
    """

    inputs: np.ndarray
    positions: np.ndarray
    branch: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    owner: np.ndarray
    in_region: np.ndarray
    in_whole: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Packed:
    """sequences: the longest first. n_cut: items that were longer than the context. shared: sequences have branches."""

    sequences: tuple[PackedSequence, ...]
    n_cut: int
    shared: bool


def pack(items: Sequence[EncodedItem], keep: int | None, may_share: bool) -> Packed:
    """keep: tokens of a request that are kept, from the right; the last of them is no input. None: all of them.

    Raises DataError where a continuation alone is longer.
    """
    cut, n_cut, number = [], 0, 0
    for item in items:
        requests = []
        for choice, request in enumerate(item.requests):
            requests.append(_cut(item, request, number, keep, choice == item.gold))
            number += 1
        n_cut += any(len(c.tokens) < len(r.tokens) for c, r in zip(requests, item.requests, strict=True))
        cut.append(requests)
    shared = [_laid_out(requests) for requests in cut] if may_share else []
    alone = sum(len(request.tokens) - 1 for requests in cut for request in requests)
    shares = may_share and sum(map(len, shared)) <= (1 - _WORTH_SHARING) * alone
    sequences = shared if shares else [_laid_out([request]) for requests in cut for request in requests]
    order = sorted(range(len(sequences)), key=lambda at: (-len(sequences[at]), at))
    return Packed(tuple(sequences[at] for at in order), n_cut, shares)


def batches(sequences: Sequence[PackedSequence], tokens: int, most: int | None = None) -> list[list[PackedSequence]]:
    """Consecutive sequences, the longest first: `most` of them, or as many as make `tokens` without much padding."""
    out: list[list[PackedSequence]] = []
    used = 0  # tokens of the last batch, without padding
    for sequence in sequences:
        if out and _takes(out[-1], used, len(sequence), tokens, most):
            out[-1].append(sequence)
            used += len(sequence)
        else:
            out.append([sequence])
            used = len(sequence)
    return out


def _takes(batch: Sequence[PackedSequence], used: int, length: int, tokens: int, most: int | None) -> bool:
    """Whether a sequence of this length joins the batch."""
    if most is not None:
        return len(batch) < most
    padded = (len(batch) + 1) * len(batch[0])
    if padded > tokens:
        return False
    return used < _ENOUGH * tokens or padded - used - length <= _PADDING * padded


def _cut(item: EncodedItem, request: Request, number: int, keep: int | None, is_gold: bool) -> CutRequest:
    length = len(request.tokens)
    first = min(request.start, request.whole_start) if is_gold else request.start
    if keep is None or length <= keep:
        return CutRequest(number, request.tokens, first, request.start, request.whole_start)
    left = length - keep
    if first - left < 1:
        raise DataError(
            f"{item.where}: a continuation of {length - first} tokens does not fit into {keep} tokens of context",
            "remove the item, or use a model with a longer context",
            kind="shape",
        )
    return CutRequest(number, request.tokens[left:], first - left, request.start - left, request.whole_start - left)


def _laid_out(requests: Sequence[CutRequest]) -> PackedSequence:
    """The requests of one item, their common beginning once; of a single request, that request."""
    common = _common([request.tokens[:-1] for request in requests]) if len(requests) > 1 else 0
    branches = [request.tokens[common:-1] for request in requests]
    inputs = np.concatenate([requests[0].tokens[:common], *branches])
    positions = np.concatenate([np.arange(common), *(np.arange(common, common + len(b)) for b in branches)])
    sizes = [common, *map(len, branches)]
    branch = np.repeat(np.arange(len(sizes)) if len(requests) > 1 else np.zeros(2, dtype=np.int64), sizes)
    parts = []
    for request, begin in zip(requests, np.cumsum(sizes)[:-1], strict=True):
        at = np.arange(request.first, len(request.tokens))  # places of the targets in the request
        rows = np.where(at - 1 < common, at - 1, at - 1 - common + begin)
        owner = np.full(len(at), request.number)
        parts.append((rows, request.tokens[at], owner, at >= request.start, at >= request.whole_start))
    rows, targets, owner, in_region, in_whole = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return PackedSequence(inputs, positions, branch, rows, targets, owner, in_region, in_whole)


def _common(sequences: Sequence[np.ndarray]) -> int:
    shortest = min(map(len, sequences))
    differ = np.zeros(shortest, dtype=bool)
    for other in sequences[1:]:
        differ |= sequences[0][:shortest] != other[:shortest]
    return int(differ.argmax()) if differ.any() else shortest
