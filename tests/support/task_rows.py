"""Rows of tasks in a database, as the daemon would leave them: a result, and the scores of its items behind it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, update

from evalcore.tasks.item_scores import ItemScores, pack
from tests.support.database import Database
from watcher.store import schema

CHOICES = 4


def item_scores(correct: Sequence[int], nats: Sequence[float], norm: Sequence[int] | None = None) -> ItemScores:
    """Items of four choices whose gold is 1; a wrong one chose 2. nats: of each gold answer, of 3 tokens, 8 bytes."""
    n, normal = len(correct), correct if norm is None else norm
    choice_nats = [value for k in range(n) for value in (9.0, nats[k], 0.5 if not correct[k] else 9.5, 9.75)]
    return ItemScores(
        index=array("I", range(n)),
        gold=array("H", [1] * n),
        chosen=array("H", [1 if right else 2 for right in correct]),
        chosen_norm=array("H", [1 if right else 2 for right in normal]),
        correct=array("B", correct),
        correct_norm=array("B", normal),
        n_choices=array("H", [CHOICES] * n),
        gold_nats=array("d", nats),
        gold_tokens=array("I", [3] * n),
        gold_bytes=array("I", [8] * n),
        choice_nats=array("d", choice_nats),
    )


def task_result(
    database: Database, step: int, scores: ItemScores, *, eval_set: str = "hellaswag", run: str = "gpt", **more: Any
) -> int:
    """A row of `results` with its `task_items`, the numbers taken from the items."""
    n = len(scores)
    accuracy = sum(scores.correct) / n
    facts = {
        "task": "hellaswag",
        "items": n,
        "accuracy": accuracy,
        "accuracy_norm": sum(scores.correct_norm) / n,
        "accuracy_stderr": math.sqrt(accuracy * (1 - accuracy) / (n - 1)),
        "random_baseline": 0.25,
        "bits_per_byte": sum(scores.gold_nats) / n / (math.log(2) * 8),
        "tokens": sum(scores.gold_tokens),
        "ppl": None,
        "stride": None,
    }
    number = database.result(
        step, sum(scores.gold_nats) / sum(scores.gold_tokens), run=run, eval_set=eval_set, **{**facts, **more}
    )
    with database.store.write() as tx:
        tx.execute(insert(schema.task_items).values(result_id=number, scores=pack(scores)))
        tx.execute(update(schema.eval_sets).where(schema.eval_sets.c.name == eval_set).values(kind="task"))
    return number
