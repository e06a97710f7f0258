"""From a task's files to encoded items: read, choose, add shots, encode. Done once for any number of checkpoints.

Owns which items count and which examples stand before each. Never touches a model.
"""

from __future__ import annotations

import itertools
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evalcore.data.errors import DataError
from evalcore.data.opening import default_tokenizer
from evalcore.data.tokenizers import Tokenizer, build_tokenizer
from evalcore.tasks.encoding import EncodedItem, Encoder
from evalcore.tasks.items import rendered_items
from evalcore.tasks.rendering import Item
from evalcore.tasks.rows import RowError
from evalcore.tasks.spec import LANGUAGE_MODELING, TOKENS, TaskSpec, problem_of
from evalcore.tasks.tokenised_items import read_tokenised

#: nanochat's seeds: of the order of the items, and of the examples before item i (plus i).
_ORDER_SEED, _SHOTS_SEED = 1337, 1234
#: Items whose right choice stands twice, of all items: a larger share is a file that was converted wrongly.
_AMBIGUOUS_MAX = 0.01

ReportItems = Callable[[int, int], None]


@dataclass(frozen=True)
class PreparedTask:
    """items: encoded, in the order of the files. largest_id: (id, where) of the highest token id. random_baseline: as
    declared, else the mean over items of 1 / choices, 0 for language modelling. tokenizer: its name, None for none."""

    spec: TaskSpec
    items: tuple[EncodedItem, ...]
    largest_id: tuple[int, str]
    random_baseline: float
    tokenizer: str | None
    notes: tuple[str, ...]

    @property
    def checksum(self) -> int:
        """Of every token and region: the same on every rank, or the ranks do not measure the same."""
        sums = 0
        for item in self.items:
            for request in item.requests:
                sums = zlib.crc32(request.tokens.tobytes(), sums)
                sums = zlib.crc32(repr((item.gold, request.start, request.whole_start)).encode(), sums)
        return sums


def prepare(
    spec: TaskSpec,
    items: Sequence[str | os.PathLike[str]] | Iterable[dict],
    tokenizer: str | Tokenizer | None = None,
    report: ReportItems | None = None,
) -> PreparedTask:
    """The encoded items of a task. items: paths of files, joined in order, or rows as dicts.

    tokenizer: a name or file, or a built one; None is gpt2, and none for tokenised items. report(done, total): items.
    Raises DataError with file and line for anything that cannot be scored.
    """
    if (problem := problem_of(spec)) is not None:
        raise DataError(problem)
    built = _tokenizer(spec, tokenizer)
    notes: list[str] = []
    try:
        if spec.rendering == TOKENS:
            table = None if built is None else built.id_bytes()
            read = (item for path in items for item in read_tokenised(os.fspath(path), table))  # type: ignore[arg-type]
            encoded = list(itertools.islice(read, spec.max_items))
        else:
            assert built is not None  # only tokenised items go without
            encoded, notes = _encoded(spec, rendered_items(spec, items), built, report)
    except RowError as error:
        raise DataError(error.reason, error.hint) from None
    if not encoded:
        raise DataError(f"task {spec.name!r}: the data holds no items", "name a file with items in it")
    notes += _ambiguous(encoded)
    largest = max(
        ((int(r.tokens.max()), item.where) for item in encoded for r in item.requests), key=lambda pair: pair[0]
    )
    return PreparedTask(
        spec, tuple(encoded), largest, _baseline(spec, encoded), None if built is None else built.name, tuple(notes)
    )


def _ambiguous(encoded: Sequence[EncodedItem]) -> list[str]:
    """A note that counts the items whose right choice stands among the others once more. lm-evaluation-harness scores
    these too: the first of equal choices is the chosen one (numpy's argmax). Raises DataError where they are many."""
    found = [(item, twin) for item in encoded if (twin := _twin(item)) is not None]
    if not found:
        return []
    item, twin = found[0]
    if len(found) > _AMBIGUOUS_MAX * len(encoded):
        raise DataError(
            f"{item.where} has the right choice twice, as {item.gold} and as {twin}: no model could tell them apart; "
            f"{len(found)} of {len(encoded)} items have",
            f"correct or remove these items; up to {_AMBIGUOUS_MAX:.0%} of the items are scored as "
            "lm-evaluation-harness does",
        )
    count = "1 item has" if len(found) == 1 else f"{len(found)} items have"
    return [f"{count} the right choice twice, the first at {item.where}; the first of equal choices counts as chosen"]


def _twin(item: EncodedItem) -> int | None:
    """Another choice with the tokens of the right one. Wrong choices that are equal change no score."""
    gold = item.requests[item.gold]
    for number, request in enumerate(item.requests):
        if number != item.gold and request.start == gold.start and np.array_equal(request.tokens, gold.tokens):
            return number
    return None


def _tokenizer(spec: TaskSpec, tokenizer: str | Tokenizer | None) -> Tokenizer | None:
    if tokenizer is None:
        return None if spec.rendering == TOKENS else default_tokenizer()
    return build_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer


def _encoded(
    spec: TaskSpec, rendered: Iterator[Item], tokenizer: Tokenizer, report: ReportItems | None
) -> tuple[list[EncodedItem], list[str]]:
    if spec.scoring == "core":
        chosen = list(rendered)
        random.Random(_ORDER_SEED).shuffle(chosen)
        chosen = chosen[: spec.max_items]
    else:
        chosen = list(itertools.islice(rendered, spec.max_items))
    if chosen and spec.shots > len(chosen) - 1:
        raise DataError(
            f"task {spec.name!r} has {len(chosen)} items, and {spec.shots} shots need {spec.shots + 1}",
            "give fewer shots or more items",
        )
    encoder = Encoder(spec, tokenizer)
    encoded = []
    for place, item in enumerate(chosen):
        encoded.append(encoder.encode(item, [chosen[at] for at in _shots(place, len(chosen), spec.shots)]))
        if report is not None and place % 256 == 0:
            report(place, len(chosen))
    encoded.sort(key=lambda item: item.index)
    return encoded, encoder.notes


def _shots(place: int, count: int, shots: int) -> list[int]:
    """Places of the examples before the item at this place: never itself."""
    drawn = random.Random(_SHOTS_SEED + place).sample(range(count - 1), shots) if shots else []
    return [at + (at >= place) for at in drawn]


def _baseline(spec: TaskSpec, encoded: Sequence[EncodedItem]) -> float:
    if spec.random_baseline is not None:
        return spec.random_baseline
    if spec.kind == LANGUAGE_MODELING:
        return 0.0
    return float(np.mean([1 / len(item.requests) for item in encoded]))
