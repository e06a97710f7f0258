"""From nats per request to the scores of a task: accuracy by each rule, bits per byte, standard errors.

Sources of the rules: EleutherAI/lm-evaluation-harness 4e7e0d4 (api/task.py, api/metrics.py), build-nanogpt 6104ab1,
nanochat 92d63d4, OLMo-core (bits per byte `_v2`). Pure arithmetic.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalcore.measure.metrics import standard_error
from evalcore.tasks.encoding import EncodedItem
from evalcore.tasks.item_scores import ItemScores
from evalcore.tasks.prepare import PreparedTask
from evalcore.tasks.spec import LANGUAGE_MODELING, SCHEMA


@dataclass(frozen=True)
class Scores:
    """What a result keeps of a task's scores; the fields are those of Measurement."""

    loss: float
    bits_per_byte: float | None
    loss_stderr: float | None
    finite: bool
    tokens: int
    bytes: int | None
    items: int
    accuracy: float
    accuracy_norm: float | None
    accuracy_stderr: float | None
    accuracy_norm_stderr: float | None
    ppl_item: float | None
    item_scores: ItemScores
    notes: tuple[str, ...]


def score_items(task: PreparedTask, region_nats: np.ndarray, whole_nats: np.ndarray, misses: np.ndarray) -> Scores:
    """region_nats, whole_nats, misses float64 (N,), one entry for each request of all items in order."""
    nats: list[float] = []
    columns: dict[str, list[int]] = {name: [] for name in ("chosen", "chosen_norm", "correct", "correct_norm")}
    gold_nats, gold_tokens = np.zeros(len(task.items)), np.zeros(len(task.items), dtype=np.int64)
    first = empty = 0
    region_nats, whole_nats = region_nats.copy(), whole_nats.copy()
    for at, item in enumerate(task.items):
        own = slice(first, first + len(item.requests))
        alike = _first_alike(item)
        region_nats[own], whole_nats[own] = region_nats[own][alike], whole_nats[own][alike]
        first = own.stop
        gold = item.requests[item.gold]
        gold_nats[at] = whole_nats[own][item.gold]
        gold_tokens[at] = len(gold.tokens) - gold.whole_start
        nats.extend(region_nats[own].tolist())
        if task.spec.kind == LANGUAGE_MODELING:
            right = misses[own.start] == 0 and math.isfinite(gold_nats[at])
            picked, verdict = (0, 0), (right, right)
        else:
            picked = _chosen(task, item, region_nats[own])
            known = not np.isnan(region_nats[own]).any()  # not a number is no guess that could be right
            verdict = (known and picked[0] == item.gold, known and picked[1] == item.gold)
            empty += any(request.start >= len(request.tokens) for request in item.requests)
        for name, value in zip(columns, (*picked, *verdict), strict=True):
            columns[name].append(int(value))
    counts = [len(item.requests) for item in task.items]
    gold_bytes = np.array([item.gold_bytes for item in task.items])
    scores = ItemScores(
        index=array("I", (item.index for item in task.items)),
        gold=array("H", (item.gold for item in task.items)),
        chosen=array("H", columns["chosen"]),
        chosen_norm=array("H", columns["chosen_norm"]),
        correct=array("B", columns["correct"]),
        correct_norm=array("B", columns["correct_norm"]),
        n_choices=array("H", counts),
        gold_nats=array("d", gold_nats.tolist()),
        gold_tokens=array("I", gold_tokens.tolist()),
        gold_bytes=array("I", gold_bytes.tolist()),
        choice_nats=array("d", nats),
    )
    return _aggregated(task, scores, gold_nats, gold_tokens, gold_bytes, empty)


def _first_alike(item: EncodedItem) -> list[int]:
    """For each choice the first one with the same tokens: rounding that differs by batch must not break such a tie."""
    firsts: dict[tuple[bytes, int, int], int] = {}
    keys = [(request.tokens.tobytes(), request.start, request.whole_start) for request in item.requests]
    return [firsts.setdefault(key, at) for at, key in enumerate(keys)]


def _chosen(task: PreparedTask, item: EncodedItem, nats: np.ndarray) -> tuple[int, int]:
    """(choice by the rule of `accuracy`, choice by that of `accuracy_norm`)."""
    tokens = np.array([len(request.tokens) - request.start for request in item.requests])
    if task.spec.scoring == "core":
        # a choice that is the beginning of all others has no region; Python's `min` of such a mean is nanochat's choice
        means = [value / count if count else math.nan for value, count in zip(nats.tolist(), tokens, strict=True)]
        best = means.index(min(means))
        return best, best
    raw = int(nats.argmin())
    if task.spec.scoring == "nanogpt":
        return raw, int((nats / tokens).argmin())
    return raw, raw if task.spec.kind == SCHEMA else int((nats / np.array(item.lengths)).argmin())


def _aggregated(
    task: PreparedTask,
    scores: ItemScores,
    gold_nats: np.ndarray,
    gold_tokens: np.ndarray,
    gold_bytes: np.ndarray,
    empty: int,
) -> Scores:
    notes = []
    tokens = int(gold_tokens.sum())
    with np.errstate(invalid="ignore"):
        loss = float(gold_nats.sum()) / tokens
    if unfinite := int(np.count_nonzero(~np.isfinite(np.array(scores.choice_nats)))):
        notes.append(f"nats: not finite in {unfinite} of {len(scores.choice_nats)} choices")
    if empty:
        notes.append(f"core: {empty} items have a choice with which all others begin; its scored region is empty")
    bytes_known = bool((gold_bytes > 0).all())
    bits = float(np.mean(gold_nats / (math.log(2) * gold_bytes))) if bytes_known else None
    if not bytes_known:
        notes.append("bits per byte unknown: no tokenizer that tells the bytes of the gold continuations")
    accuracy, accuracy_stderr = _mean(scores.correct)
    single = task.spec.scoring == "lm-eval" and task.spec.rendering in ("boolq", "mmlu")  # the harness names no other
    two = not single and task.spec.scoring != "core" and task.spec.kind not in (LANGUAGE_MODELING, SCHEMA)
    norm, norm_stderr = _mean(scores.correct_norm) if two else (None, None)
    return Scores(
        loss=loss,
        bits_per_byte=bits if bits is not None and math.isfinite(bits) else None,
        loss_stderr=standard_error(gold_nats, gold_tokens) if math.isfinite(loss) else None,
        finite=math.isfinite(loss),
        tokens=tokens,
        bytes=int(gold_bytes.sum()) if bytes_known else None,
        items=len(scores),
        accuracy=accuracy,
        accuracy_norm=norm,
        accuracy_stderr=accuracy_stderr,
        accuracy_norm_stderr=norm_stderr,
        ppl_item=_perplexity(gold_nats) if task.spec.kind == LANGUAGE_MODELING else None,
        item_scores=scores,
        notes=tuple(notes),
    )


def _mean(correct: Sequence[int]) -> tuple[float, float | None]:
    """(mean, its standard error: sample deviation with n - 1, over the root of n)."""
    n = len(correct)
    mean = sum(correct) / n
    if n < 2:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in correct) / (n - 1)) / math.sqrt(n)


def _perplexity(gold_nats: np.ndarray) -> float | None:
    """exp of the mean over items; None above the float range."""
    mean = float(gold_nats.mean())
    return math.exp(mean) if mean < 700 else None
