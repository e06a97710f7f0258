"""What is worth telling: facts in, alerts out."""

from __future__ import annotations

import pytest

from watcher.alerts.rules import (
    QueueFacts,
    ResultFacts,
    RunFacts,
    decide,
    decide_failure,
    decide_lag,
    decide_stalled,
    metric_of,
)
from watcher.domain.metrics import ACCURACY, BITS_PER_BYTE
from watcher.settings.schema import AlertSettings


def row(loss: float | None, step: int = 500, eval_set: str = "val") -> dict:
    about = {"run": "gpt", "eval_set": eval_set, "checkpoint": f"step_{step}.pt", "step": step}
    return {**about, "loss": loss, "finite": int(loss is not None)}


def kinds(alerts) -> list[str]:
    return [alert.kind for alert in alerts]


def test_a_lower_loss_than_ever_before_is_a_new_best_and_the_first_result_is_none():
    rule = AlertSettings(on=("best",))
    assert kinds(decide(rule, ResultFacts(row(2.0), best=row(2.1, 400)))) == ["best"]
    assert decide(rule, ResultFacts(row(2.1), best=row(2.1, 400))) == []
    assert decide(rule, ResultFacts(row(2.0))) == []
    (alert,) = decide(rule, ResultFacts(row(2.0), best=row(2.1, 400)))
    assert alert.text == "gpt: step_500.pt on val: new best loss 2.0000 (before: 2.1000 at step 400)"
    assert alert.as_json()["result"]["loss"] == 2.0


@pytest.mark.parametrize(("difference", "stderr", "told"), [(0.31, 0.1, True), (0.29, 0.1, False), (-1, 0.1, False)])
def test_a_regression_is_worse_by_more_than_k_standard_errors(difference, stderr, told):
    rule = AlertSettings(on=("regression",), k_stderr=3)
    facts = ResultFacts(row(2.5), earlier=row(2.2, 400), difference=difference, stderr=stderr)
    assert bool(decide(rule, facts)) == told
    assert decide(rule, ResultFacts(row(2.5), earlier=row(2.2, 400))) == [], "what cannot be compared is no regression"


def test_a_task_is_judged_by_accuracy_whose_direction_is_up_unless_another_metric_is_named():
    now = {**row(2.0), "task": "piqa", "accuracy": 0.6, "bits_per_byte": 1.0}
    before = {**row(2.1, 400), "task": "piqa", "accuracy": 0.5, "bits_per_byte": 0.9}
    rule, bits = AlertSettings(on=("best", "regression")), AlertSettings(on=("best",), metric="bits_per_byte")
    assert metric_of(rule, now) == ACCURACY and metric_of(bits, now) == BITS_PER_BYTE
    (alert,) = decide(rule, ResultFacts(now, best=before, metric=ACCURACY))
    assert alert.text == "gpt: step_500.pt on val: new best accuracy 0.6000 (before: 0.5000 at step 400)"
    assert alert.metric == "accuracy"
    assert decide(bits, ResultFacts(now, best=before, metric=BITS_PER_BYTE)) == []
    worse = ResultFacts(before, earlier=now, difference=-0.1, stderr=0.02, metric=ACCURACY)
    assert kinds(decide(rule, worse)) == ["regression"]
    assert decide(rule, ResultFacts(now, earlier=before, difference=0.1, stderr=0.02, metric=ACCURACY)) == []


def test_a_first_result_is_the_best_where_a_link_is_kept_and_raises_nothing_elsewhere():
    """The newest checkpoint is evaluated first: where it is the best, no later result would move the link to it."""
    assert decide(AlertSettings(on=("best",), command=("true",)), ResultFacts(row(2.0))) == []
    (alert,) = decide(AlertSettings(on=("best",), best_link="best.pt"), ResultFacts(row(2.0)))
    assert (alert.kind, alert.text) == ("best", "gpt: step_500.pt on val: first loss 2.0000")
    assert decide(AlertSettings(on=("best",), best_copy="b.pt"), ResultFacts({**row(2.0), "weights": "mean5"})) == []


def test_a_set_without_the_named_metric_raises_no_best_and_its_result_is_told_by_loss():
    rule = AlertSettings(on=("best", "result"), metric="accuracy")
    (alert,) = decide(rule, ResultFacts(row(2.0), best=row(2.1, 400), metric=ACCURACY))
    assert (alert.kind, alert.text) == ("result", "gpt: step_500.pt on val: loss 2.0000")


def test_a_loss_that_is_not_finite_is_told_and_is_neither_best_nor_regression():
    rule = AlertSettings(on=("best", "nonfinite", "regression"))
    assert kinds(decide(rule, ResultFacts(row(None), best=row(2.0, 400)))) == ["nonfinite"]
    assert decide(rule, ResultFacts(row(2.5), best=row(2.0, 400))) == []


def test_a_rule_for_one_set_is_silent_on_the_others():
    rule = AlertSettings(on=("result", "failure"), eval_set="val")
    assert kinds(decide(rule, ResultFacts(row(2.0)))) == ["result"]
    assert decide(rule, ResultFacts(row(2.0, eval_set="wiki"))) == []
    failure = {**row(None), "kind": "crash", "reason": "signal 11"}
    assert kinds(decide_failure(rule, failure)) == ["failure"]
    assert decide_failure(rule, {**failure, "eval_set": "wiki"}) == []
    assert kinds(decide_failure(rule, {**failure, "eval_set": None})) == ["failure"], (
        "a file's failure concerns all sets"
    )


def test_a_training_is_stalled_after_some_times_its_usual_interval():
    rule = AlertSettings(on=("stalled",), stalled_factor=3)
    saved = [0, 600, 1200, 1800, 9000, 9600]  # one long pause does not move the median
    facts = RunFacts("gpt", 6, "step_6.pt", saved)
    assert decide_stalled(rule, facts, 9600 + 1800) == []
    assert kinds(decide_stalled(rule, facts, 9600 + 1801)) == ["stalled"]
    assert decide_stalled(rule, RunFacts("gpt", 3, "c.pt", saved[:3]), 1e6) == [], "too few saves to know what is usual"
    assert decide_stalled(AlertSettings(on=("lag",)), facts, 1e6) == []


def test_a_queue_lags_when_its_oldest_job_is_older_than_said():
    rule = AlertSettings(on=("lag",), lag_s=60)
    assert kinds(decide_lag(rule, QueueFacts(1, "gpt", "a.pt", 61))) == ["lag"]
    assert decide_lag(rule, QueueFacts(1, "gpt", "a.pt", 60)) == [] == decide_lag(rule, None)


def test_an_alert_about_a_reason_of_megabytes_is_a_small_event():
    failure = {**row(None), "kind": "shape", "reason": f"unknown tensor {'w' * 3_000_000}"}
    (alert,) = decide_failure(AlertSettings(on=("failure",)), failure)
    event = alert.as_json()
    assert len(str(event)) < 20_000 and event["text"].endswith("more characters)")
    assert event["failure"]["kind"] == "shape"
