"""`every`: the last checkpoint of a training is evaluated by a running daemon though the stride left it out."""

from __future__ import annotations

import pytest

from tests.support.database import SAVED_S, Database
from watcher.domain.order import newest_is_due
from watcher.log import Log
from watcher.pipeline.stride import EVERY_S, StrideEnd
from watcher.settings.schema import RunSettings
from watcher.store.read.job_list import waiting_or_running


@pytest.mark.parametrize(
    ("saved_s", "now_s", "due"),
    [
        ([], 1e6, False),
        ([0.0], 599.0, False),
        ([0.0], 601.0, True),
        ([0.0, 100.0, 200.0], 399.0, False),  # the next one may still come
        ([0.0, 100.0, 200.0], 401.0, True),
        ([0.0, 1000.0, 1100.0], 3000.0, False),  # the longest pause counts: evaluations of the trainer's own, say
        ([0.0, 1.0, 2.0], 61.0, False),
        ([0.0, 1.0, 2.0], 63.0, True),
    ],
)
def test_the_newest_is_due_once_no_other_has_come_for_twice_the_longest_interval(saved_s, now_s, due):
    assert newest_is_due(saved_s, now_s) is due


def test_a_running_daemon_queues_the_last_checkpoint_when_the_trainer_has_stopped(tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    for step in (1, 2, 3):  # saved every 60 s
        database.job(database.checkpoint(step), "cancelled", kind="skipped", reason="run.every = 10")
    end, run = StrideEnd(database.store, Log(0)), RunSettings(name="gpt", dir=tmp_path, every=10)
    end.tick([run], 1000.0, SAVED_S + 180 + 119)
    assert waiting_or_running(database.store, 0) == []
    end.tick([run], 1000.0 + EVERY_S, SAVED_S + 180 + 121)
    assert [row["step"] for row in waiting_or_running(database.store, 0)] == [3]
    database.close()
