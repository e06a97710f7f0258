"""The sentence about the best checkpoint names what it was paired over: windows of a text, items of a task."""

from __future__ import annotations

import pytest

from watcher.domain.metrics import LOSS
from watcher.report.best_words import best_words
from watcher.report.curves import Best
from watcher.report.difference import Difference


@pytest.mark.parametrize(("task", "words"), [(None, "over the same windows"), ("piqa", "over the same items")])
def test_a_best_by_loss_is_paired_over_the_windows_of_a_text_and_the_items_of_a_task(task, words):
    row = {"step": 100, "checkpoint": "a.pt", "task": task, "loss": 2.01}
    lowest = {**row, "step": 200, "loss": 2.0}
    near = Difference(0.01, 0.02, -0.03, 0.05, 0.6, windows=40, method="paired")
    assert best_words(Best(row, lowest, near, LOSS)) == (
        "the lowest loss is 2.0000 at step 200; the earliest that equals it within noise is step 100 "
        f"(+0.0100 nats, p = 0.60 > 0.05, {words})"
    )
