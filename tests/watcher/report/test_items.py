"""The paired comparison of two checkpoints on a task's items: exact p, interval, flipped items, directions."""

from __future__ import annotations

import math

import pytest

from tests.support.task_rows import item_scores
from watcher.domain.metrics import ACCURACY, ACCURACY_NORM, BITS_PER_BYTE, LOSS, METRICS, SCORES, headline
from watcher.report.comparison import compare, verdict
from watcher.report.curves import best_within_noise
from watcher.report.difference import Difference, NotComparable
from watcher.report.item_comparison import compare_items, flips, mcnemar
from watcher.report.items import item_rows


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),  # 2 / 2^5
        (10, 2, 158 / 4096),  # 2 (1 + 12 + 66) / 2^12
        (2, 10, 158 / 4096),
        (6, 6, 1.0),
        (300, 200, 8.9e-06),  # a normal approximation with continuity correction gives 9.6e-06
    ],
)
def test_mcnemars_p_is_exact(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p, rel=0.02 if gained == 300 else 1e-12)


def test_accuracies_differ_by_the_flipped_items():
    a = item_scores([1] * 10 + [0] * 90, [2.0] * 100)
    b = item_scores([0] * 2 + [1] * 18 + [0] * 80, [2.0] * 100)
    found = compare_items(ACCURACY, a, b)
    assert (found.difference, found.gained, found.lost, found.windows) == (pytest.approx(0.08), 10, 2, 100)
    assert found.p == pytest.approx(158 / 4096) and found.significant
    spread = math.sqrt((12 - 100 * 0.08**2) / 99 / 100)  # of ten +1, two -1 and 88 zeros
    assert found.stderr == pytest.approx(spread)
    assert found.high - found.difference == pytest.approx(1.984217 * spread, rel=1e-5)  # t of 99 degrees of freedom
    assert [(flip.place, flip.gained) for flip in flips(ACCURACY, a, b)] == [
        (0, False), (1, False), *((place, True) for place in range(10, 20)),
    ]  # fmt: skip


def test_bits_per_byte_of_the_gold_answers_are_compared_by_the_paired_t():
    a = item_scores([0, 0, 0, 0], [4.0, 5.0, 6.0, 7.0])
    b = item_scores([0, 0, 0, 0], [3.0, 4.0, 5.0, 5.0])
    found = compare_items(BITS_PER_BYTE, a, b)
    scale = 8 * math.log(2)
    assert found.difference == pytest.approx(-1.25 / scale)
    assert found.stderr == pytest.approx(0.25 / scale)  # differences -1, -1, -1, -2: sd 0.5, over sqrt(4)
    assert found.p == pytest.approx(0.015392, rel=1e-4)  # t = -5 with 3 degrees of freedom, two-sided
    assert verdict(found, "A", "B", BITS_PER_BYTE) == "B is better"


def test_higher_accuracy_is_better_and_the_two_accuracies_are_told_apart():
    a = item_scores([0] * 20, [2.0] * 20, norm=[1] * 20)
    b = item_scores([1] * 20, [2.0] * 20, norm=[0] * 20)
    by_raw, by_norm = compare_items(ACCURACY, a, b), compare_items(ACCURACY_NORM, a, b)
    assert verdict(by_raw, "A", "B", ACCURACY) == "B is better"
    assert verdict(by_norm, "A", "B", ACCURACY_NORM) == "A is better"


def test_other_items_are_not_compared():
    assert isinstance(compare_items(ACCURACY, item_scores([1], [1.0]), item_scores([1, 0], [1.0, 1.0])), NotComparable)


def test_each_item_is_a_row_with_the_nats_of_its_own_choices():
    rows = item_rows(item_scores([1, 0], [1.5, 2.5]))
    assert [(row["item"], row["gold"], row["chosen"], row["correct"]) for row in rows] == [(1, 1, 1, 1), (2, 1, 2, 0)]
    assert rows[1]["choice_nats"] == [9.0, 2.5, 0.5, 9.75]
    assert rows[0]["bits_per_byte"] == pytest.approx(1.5 / (8 * math.log(2)))


def row(number: int, step: int, accuracy: float, loss: float = 2.0) -> dict:
    about = {"id": number, "step": step, "run": "gpt", "eval_set": "h", "task": "hellaswag", "eval_digest": "e"}
    return about | {"accuracy": accuracy, "accuracy_stderr": 0.01, "loss": loss, "loss_stderr": 0.01, "finite": 1}


def test_the_best_of_a_task_is_the_earliest_that_flips_no_more_than_chance_from_the_highest():
    rows = [row(1, 100, 0.2), row(2, 200, 0.5), row(3, 300, 0.51), row(4, 400, 0.4)]
    items = {
        1: item_scores([1] * 20 + [0] * 80, [1.0] * 100),
        2: item_scores([1] * 50 + [0] * 50, [1.0] * 100),
        3: item_scores([1] * 51 + [0] * 49, [1.0] * 100),
        4: item_scores([1] * 40 + [0] * 60, [1.0] * 100),
    }
    best = best_within_noise(rows, {}, items)
    assert (best.row["step"], best.lowest["step"], best.metric.key) == (200, 300, "accuracy")
    assert best.difference.p == 1.0
    assert best_within_noise(rows, {}, {}, LOSS).metric.key == "loss"


def test_without_items_the_standard_errors_serve():
    found = compare(ACCURACY, row(1, 100, 0.2), row(2, 200, 0.5), {})
    assert isinstance(found, Difference) and found.method == "unpaired"
    assert found.stderr == pytest.approx(math.hypot(0.01, 0.01))


def test_accuracy_above_chance_is_zero_by_guessing_and_one_when_all_is_right():
    centered = SCORES["accuracy_centered"]
    assert centered.value_of({"accuracy": 0.25, "random_baseline": 0.25}) == 0
    assert centered.value_of({"accuracy": 1.0, "random_baseline": 0.25}) == 1
    assert centered.value_of({"accuracy": 0.7, "random_baseline": None}) is None
    assert centered.error_of({"accuracy_stderr": 0.03, "random_baseline": 0.25}) == pytest.approx(0.04)
    assert headline({"task": None}) == METRICS["loss"] and headline({"task": "piqa"}) == METRICS["accuracy"]
