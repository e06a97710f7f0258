"""Delivery with real processes: outbox, deliveries, result; interrupted, refused, slow; and alerts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.database import Database, small_run
from tests.support.waiting import wait_until
from watcher.log import Log
from watcher.pipeline.delivery import WORKER, Delivery
from watcher.pipeline.isolation import Isolation
from watcher.settings.schema import AlertSettings, SinkSettings
from watcher.sinks.delivery_process import DeliveryProcesses
from watcher.state.folder import StateFolder

HOOK = "import json, sys; open(sys.argv[1], 'a').write(json.dumps(json.load(sys.stdin)) + chr(10))"


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    made = small_run(tmp_path / "a.db")
    yield made
    made.close()


@pytest.fixture
def state(tmp_path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


class Words(Log):
    def __init__(self) -> None:
        super().__init__(verbosity=1)
        self.heard: list[tuple[str, dict]] = []

    def event(self, name: str, **facts: object) -> None:
        self.heard.append((name, dict(facts)))


def delivery(database: Database, state: StateFolder, sinks=(), alerts=(), boot: bool = True) -> Delivery:
    log, deliveries = Words(), DeliveryProcesses(state.sinks, WORKER)
    made = Delivery(database.store, log, Isolation(log), sinks, alerts, ["gpt"], deliveries)
    if boot:
        made.adopt(time.time())
        made.apply_leftovers(time.time())
    return made


def run_until(one: Delivery, condition, *, later_s: float = 0.0, within_s: float = 60.0) -> None:
    """Tick as the daemon would; later_s: how far the clock has gone on, for pauses between tries."""

    def tick():
        one._ticked_s = -1e9
        one.tick(time.monotonic(), time.time() + later_s)
        return condition()

    wait_until(tick, within_s)


def states(database: Database, sink: str) -> list[tuple]:
    query = "SELECT state, tries, error FROM exports WHERE sink = :sink AND kind IN ('result', 'event') ORDER BY id"
    with database.store.read() as tx:
        return [tuple(row) for row in tx.execute(text(query), {"sink": sink})]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_new_result_arrives_in_every_sink_once_and_is_marked_done(database, state, tmp_path):
    sinks = [SinkSettings(kind="jsonl", path=tmp_path / "r.jsonl"), SinkSettings(kind="csv", path=tmp_path / "r.csv")]
    one = delivery(database, state, [*sinks, SinkSettings(kind="prometheus", name="p", path=tmp_path / "p.prom")])
    first = database.result(400, 2.1)
    run_until(one, lambda: one.idle(time.time()))
    second = database.result(500, 2.0)
    run_until(one, lambda: one.idle(time.time()))
    assert [line["id"] for line in lines(tmp_path / "r.jsonl")] == [first, second]
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3
    assert 'ckptwatch_eval_step{run="gpt",eval_set="val"} 500' in (tmp_path / "p.prom").read_text()
    for name in ("jsonl", "csv", "p"):
        assert states(database, name) == [("done", 0, None)] * 2
    assert not list(state.root.glob("sinks/*/re*.json"))


def test_a_sink_that_fails_does_not_hold_up_another_and_is_tried_again(database, state, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    bad = SinkSettings(kind="jsonl", name="bad", path=blocked / "r.jsonl")
    one = delivery(database, state, [bad, SinkSettings(kind="csv", path=tmp_path / "r.csv")])
    database.result(400, 2.1)
    run_until(one, lambda: states(database, "csv") == [("done", 0, None)] and states(database, "bad")[0][1] == 1)
    (row,) = states(database, "bad")
    assert row[0] == "pending" and "blocked" in row[2]
    complaints = [facts for name, facts in one.log.heard if name == "sink_failed"]
    assert [facts["sink"] for facts in complaints] == ["bad"]
    blocked.unlink()
    run_until(one, lambda: states(database, "bad")[0][0] == "done", later_s=3600)
    assert len(lines(blocked / "r.jsonl")) == 1


def test_a_daemon_killed_after_a_delivery_applies_its_result_at_the_next_start(database, state, tmp_path):
    sinks = [SinkSettings(kind="jsonl", path=tmp_path / "r.jsonl")]
    one = delivery(database, state, sinks)
    database.result(400, 2.1)
    one.tick(time.monotonic(), time.time())
    wait_until(lambda: (state.root / "sinks/jsonl/result.json").exists())
    again = delivery(database, state, sinks)
    assert states(database, "jsonl") == [("done", 0, None)]
    run_until(again, lambda: again.idle(time.time()))
    assert len(lines(tmp_path / "r.jsonl")) == 1


def test_a_delivery_cut_short_after_it_had_written_is_not_written_twice(database, state, tmp_path):
    sinks = [SinkSettings(kind="jsonl", path=tmp_path / "r.jsonl")]
    one = delivery(database, state, sinks)
    database.result(400, 2.1)
    one.tick(time.monotonic(), time.time())
    wait_until(lambda: (state.root / "sinks/jsonl/result.json").exists())
    (state.root / "sinks/jsonl/result.json").unlink()  # it had sent, and died before it could say so
    again = delivery(database, state, sinks)
    assert states(database, "jsonl") == [("pending", 0, None)]
    run_until(again, lambda: states(database, "jsonl")[0][0] == "done")
    assert len(lines(tmp_path / "r.jsonl")) == 1


def runs(pid: str) -> bool:
    """Whether the process runs. A zombie does not: once another test made it a subreaper, this process has orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_delivery_that_hangs_is_killed_with_what_it_started_and_told(database, state, tmp_path):
    pid = tmp_path / "pid"
    hangs = ("sh", "-c", f"echo $$ > '{pid}'; exec sleep 600")
    one = delivery(database, state, alerts=[AlertSettings(on=("result",), command=hangs, timeout_s=600)])
    (name,) = one.alerts
    database.result(400, 2.1)
    run_until(one, lambda: pid.exists() and pid.read_text().strip())
    limit_s = one.deliveries.timeout_s
    one.tick(time.monotonic() + limit_s + 1, time.time())
    assert f"longer than {limit_s:.0f} s" in states(database, name)[0][2]
    assert one.deliveries.free(name) and one.log.heard[-1][0] == "sink_failed"
    wait_until(lambda: not runs(pid.read_text().strip()))


def test_two_deliveries_to_one_sink_never_write_at_once(database, state, tmp_path):
    from watcher.sinks.delivery_folder import exclusive_delivery

    one = delivery(database, state, [SinkSettings(kind="jsonl", path=tmp_path / "r.jsonl")])
    database.result(400, 2.1)
    with exclusive_delivery(state.root / "sinks" / "jsonl"):
        run_until(one, lambda: states(database, "jsonl")[0][1] == 1)
    assert "still running" in states(database, "jsonl")[0][2]
    assert not (tmp_path / "r.jsonl").exists()


def test_deliveries_do_not_load_heavy_libraries_into_the_daemon(database, state, tmp_path):
    pytest.importorskip("tensorboard")
    one = delivery(database, state, [SinkSettings(kind="tensorboard", path=tmp_path / "tb")])
    before = set(sys.modules)
    database.result(400, 2.1)
    run_until(one, lambda: states(database, "tensorboard")[0][0] == "done")
    assert (tmp_path / "tb" / "gpt" / "ckptwatch").exists()
    assert not any(name.split(".")[0] in ("tensorboard", "numpy") for name in set(sys.modules) - before)


def test_alerts_are_decided_once_and_told_by_the_command(database, state, tmp_path):
    hook, heard = tmp_path / "hook.py", tmp_path / "heard"
    hook.write_text(HOOK)
    rule = AlertSettings(on=("best", "nonfinite", "failure"), command=(sys.executable, str(hook), str(heard)))
    one = delivery(database, state, alerts=[rule])
    database.result(400, 2.1)
    database.result(500, None)
    database.job(database.checkpoint(600), "failed")
    run_until(one, lambda: len(lines(heard)) == 3 and one.idle(time.time()))
    again = delivery(database, state, alerts=[rule])
    run_until(again, lambda: again.idle(time.time()))
    said = lines(heard)
    assert [event["kind"] for event in said] == ["best", "nonfinite", "failure"]
    assert said[0]["result"]["loss"] == 2.1 and said[2]["failure"]["kind"] == "corrupt"
    assert [name for name, _ in one.log.heard] == ["alert"] * 3
    with database.store.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM events WHERE name = 'alert'")).scalar_one() == 3


def test_a_regression_is_judged_paired_over_the_kept_windows(database, state):
    rule = AlertSettings(on=("regression",), command=("true",))
    one = delivery(database, state, alerts=[rule])
    hard = [10.0, 200.0, 30.0, 150.0, 60.0, 90.0] * 4  # windows differ much more than checkpoints do
    targets = [64] * len(hard)
    database.result(400, None, windows=hard, targets=targets, loss_stderr=0.3)
    worse = [nats * 1.02 + 0.1 for nats in hard]
    number = database.result(450, None, windows=worse, targets=targets, loss_stderr=0.3)
    run_until(one, lambda: one.idle(time.time()))
    told = [facts["text"] for name, facts in one.log.heard if name == "alert"]
    assert len(told) == 1 and "step_450.pt" in told[0] and "is worse than" in told[0]
    assert number


def test_a_stalled_training_and_a_late_queue_are_told_once(database, state):
    rule = AlertSettings(on=("stalled", "lag"), command=("true",), lag_s=1)
    one = delivery(database, state, alerts=[rule])
    for step in (400, 500, 600):
        database.job(database.checkpoint(step), "queued")
    run_until(one, lambda: one.idle(time.time()))
    one._timed_s = -1e9
    run_until(one, lambda: one.idle(time.time()))
    assert sorted(facts["text"].split(":")[1].split()[0] for name, facts in one.log.heard if name == "alert") == [
        "no",
        "step_400.pt",
    ]


def test_the_best_checkpoint_is_linked_by_the_daemons_own_way(tmp_path, state):
    ckpts = tmp_path / "ckpts"
    ckpts.mkdir()
    database = Database(tmp_path / "b.db")
    database.run(folder=ckpts)
    database.eval_set()
    rule = AlertSettings(on=("best",), best_link=tmp_path / "best.pt")
    one = delivery(database, state, alerts=[rule])
    for step, loss in ((100, 3.0), (200, 2.5)):
        path = ckpts / f"step_{step}.pt"
        path.write_bytes(b"x" * step)
        status = path.stat()
        database.checkpoint(step, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        database.result(step, loss)
    link = tmp_path / "best.pt"  # first to step 100, the first result, then on to the better one
    run_until(one, lambda: link.is_symlink() and os.readlink(link) == str(ckpts / "step_200.pt"))
    one.deliveries.stop()
    database.close()


def test_without_sinks_and_alerts_nothing_is_written(database, state):
    one = delivery(database, state)
    database.result(400, 2.1)
    one.tick(time.monotonic(), time.time())
    assert one.idle(time.time())
    with database.store.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM exports")).scalar_one() == 0
    assert not (state.root / "sinks").exists()


def test_a_sink_added_later_gets_the_results_that_come_after_it(database, state, tmp_path):
    one = delivery(database, state, [SinkSettings(kind="jsonl", path=tmp_path / "r.jsonl")])
    run_until(one, lambda: one.idle(time.time()))
    assert lines(tmp_path / "r.jsonl") == []
    database.result(400, 2.1)
    run_until(one, lambda: lines(tmp_path / "r.jsonl") != [] and one.idle(time.time()))
    assert [line["step"] for line in lines(tmp_path / "r.jsonl")] == [400]


def test_a_line_that_was_cut_short_after_it_was_delivered_is_completed_with_the_next_result(database, state, tmp_path):
    path = tmp_path / "r.csv"
    one = delivery(database, state, [SinkSettings(kind="csv", path=path)])
    first = database.result(400, 2.1)
    run_until(one, lambda: states(database, "csv") == [("done", 0, None)])
    os.truncate(path, path.stat().st_size - 30)  # as a power failure leaves it
    second = database.result(500, 2.0)
    run_until(one, lambda: states(database, "csv") == [("done", 1, None)] * 2)
    assert sorted(int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]) == [first, second]
