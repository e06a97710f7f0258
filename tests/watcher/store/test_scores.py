"""The views `scores` and `suites`: every metric in long form, and a suite's mean only with all members there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sqlalchemy import insert, text, update

from tests.support.database import Database
from watcher.domain.metrics import SCORES
from watcher.report.suites import suite_words
from watcher.store.read.suites import suite_scores
from watcher.store.schema import eval_sets, task_items
from watcher.store.views import SCORE_SQL


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set(name="val")
    for name in ("core/piqa", "core/copa"):
        database.eval_set(name=name, digest=f"sha256:{name}")
    with database.store.write() as tx:
        tx.execute(update(eval_sets).where(eval_sets.c.name != "val").values(kind="task", suite="core"))
    yield database
    database.close()


def task_row(database: Database, step: int, name: str, accuracy: float, baseline: float, **more):
    facts = {"task": name, "items": 100, "accuracy": accuracy, "accuracy_stderr": 0.05, "random_baseline": baseline}
    return database.result(step, 2.0, eval_set=name, ppl=None, **{**facts, **more})


def ask(database: Database, query: str) -> list[tuple]:
    with database.store.read() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


def test_every_metric_that_a_row_has_is_one_row_of_scores(database):
    database.result(10, 3.0, bits_per_byte=1.5)
    number = task_row(database, 10, "core/piqa", 0.625, 0.5, accuracy_norm=0.7, bits_per_byte=0.9)
    with database.store.write() as tx:
        values = {"result_id": number, "scores": b"", "accuracy_norm_stderr": 0.04, "ppl_item": 45.5}
        tx.execute(insert(task_items).values(bits_per_byte_stderr=0.01, **values))
    found = ask(database, "SELECT eval_set, metric, value, stderr FROM scores WHERE eval_set = 'core/piqa'")
    assert sorted(found) == [
        ("core/piqa", "accuracy", 0.625, 0.05),
        ("core/piqa", "accuracy_centered", 0.25, 0.1),  # (0.625 - 0.5) / 0.5, and 0.05 / 0.5
        ("core/piqa", "accuracy_norm", 0.7, 0.04),
        ("core/piqa", "bits_per_byte", 0.9, 0.01),
        ("core/piqa", "loss", 2.0, 0.01),
        ("core/piqa", "ppl_item", 45.5, None),
    ]
    metrics = ask(database, "SELECT metric FROM scores WHERE eval_set = 'val' ORDER BY metric")
    assert metrics == [("bits_per_byte",), ("loss",), ("ppl",)]


def test_the_view_has_the_metrics_of_plots_and_tables():
    assert set(SCORE_SQL) == set(SCORES)


def test_scores_have_the_version_observed_last_and_keep_means_apart(database):
    database.checkpoint(10, path="a.pt", digest="d1", observed_at="2026-01-02T00:00:00.000000Z")
    database.checkpoint(10, path="b.pt", digest="d2", observed_at="2026-01-01T00:00:00.000000Z")
    database.result(10, 2.0, checkpoint="a.pt", checkpoint_digest="d1")
    database.result(10, 3.0, checkpoint="b.pt", checkpoint_digest="d2")
    database.result(10, 1.0, checkpoint="a.pt#mean5", checkpoint_digest="m", weights="mean5")
    losses = ask(database, "SELECT value, weights FROM scores WHERE metric = 'loss' ORDER BY value")
    assert losses == [(1.0, "mean5"), (2.0, None)]


def test_a_suite_has_no_value_until_every_member_has_a_result(database):
    task_row(database, 10, "core/piqa", 0.75, 0.5)
    task_row(database, 20, "core/piqa", 0.75, 0.5)
    task_row(database, 20, "core/copa", 0.625, 0.5)
    found = ask(database, "SELECT suite, step, value, members, expected FROM suites ORDER BY step")
    assert found == [("core", 10, None, 1, 2), ("core", 20, 0.375, 2, 2)]  # (0.5 + 0.25) / 2


def test_a_suite_has_the_standard_error_of_the_mean_of_independent_tasks(database):
    """Against the spread of the mean over many draws of the items, each task's by its own chance of a right answer."""
    database.eval_set(name="core/arc", digest="sha256:core/arc")
    with database.store.write() as tx:
        tx.execute(update(eval_sets).where(eval_sets.c.name == "core/arc").values(kind="task", suite="core"))
    draw = np.random.default_rng(5)
    parts = (("core/piqa", 0.75, 0.5, 300), ("core/copa", 0.6, 0.5, 100), ("core/arc", 0.4, 0.25, 500))
    for name, accuracy, baseline, n in parts:
        error = math.sqrt(accuracy * (1 - accuracy) / n)
        task_row(database, 20, name, accuracy, baseline, accuracy_stderr=error)
    [(view,)] = ask(database, "SELECT stderr FROM suites")
    drawn = [(draw.binomial(n, p, 100_000) / n - baseline) / (1 - baseline) for _, p, baseline, n in parts]
    assert view == pytest.approx(np.mean(drawn, axis=0).std(), rel=0.01)
    errors = [math.sqrt(p * (1 - p) / n) / (1 - baseline) for _, p, baseline, n in parts]
    assert view == pytest.approx(math.hypot(*errors) / 3, rel=1e-14)
    [score] = suite_scores(database.store)
    assert score.stderr == pytest.approx(view, rel=1e-14)
    assert (
        suite_words(score) == f"core {score.value:.4f} ±{view:.4f} at step 20 (mean accuracy above chance of 3 tasks)"
    )

    task_row(database, 30, "core/piqa", 0.75, 0.5, accuracy_stderr=None)  # one item alone has no error
    task_row(database, 30, "core/copa", 1.0, 0.5, accuracy_stderr=0.0)
    task_row(database, 30, "core/arc", 1.0, 0.25, accuracy_stderr=0.0)
    assert ask(database, "SELECT stderr FROM suites WHERE step = 30") == [(None,)]
    assert suite_scores(database.store)[1].stderr is None
    for name in ("core/piqa", "core/copa", "core/arc"):
        task_row(database, 40, name, 1.0, 0.25, accuracy_stderr=0.0)
    assert ask(database, "SELECT value, stderr FROM suites WHERE step = 40") == [(1.0, 0.0)]
