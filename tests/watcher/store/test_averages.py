"""Which means are made when checkpoints are registered, of what, and when one no longer stands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from sqlalchemy import text, update

from tests.support.database import Database
from watcher.cli import root
from watcher.domain.averages import AverageSpec
from watcher.store import schema
from watcher.store.write import averages, pins, queue
from watcher.store.write.eval_sets import EvalSetRow

NOW = "2026-11-28T12:00:00.000000Z"
LAST_3 = AverageSpec(last=3)


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "r.db")
    made.run()
    made.eval_set()
    yield made
    made.close()


def saved(database, step, skipped=False, **more):
    number = database.checkpoint(step, **more)
    database.job(number, "cancelled" if skipped else "queued", kind="skipped" if skipped else None)
    return number


def plan(database, *specs):
    sets = [EvalSetRow(1, "val", "sha256:11")]
    return averages.plan_averages(database.store, "gpt", specs or (LAST_3,), sets, NOW)


def asked(database, query):
    with database.store.read() as tx:
        return [tuple(row) for row in tx.execute(text(query))]


MEMBERS = """SELECT path, group_concat(step) FROM (
                 SELECT a.id, a.path, c.step FROM averages a JOIN average_members m ON m.average_id = a.id
                 JOIN checkpoints c ON c.id = m.checkpoint_id WHERE a.state = {!r} ORDER BY a.id, m.position
             ) GROUP BY id"""


def test_a_mean_is_made_of_each_new_checkpoint_and_the_ones_registered_before_it(database):
    for step in (10, 20):
        saved(database, step)
    assert plan(database) == []
    assert asked(database, "SELECT state, reason FROM averages") == [("waiting", "2 of 3 checkpoints so far")]
    for step in (30, 40):
        saved(database, step)
    assert plan(database) == ["step_30.pt#mean3", "step_40.pt#mean3"]
    assert plan(database) == []
    assert asked(database, MEMBERS.format("ready")) == [
        ("step_30.pt#mean3", "30,20,10"),
        ("step_40.pt#mean3", "40,30,20"),
    ]
    assert asked(database, MEMBERS.format("waiting")) == [("step_40.pt#mean3", "40,30,20")]
    versions = asked(database, "SELECT path, step, weights, family FROM checkpoints WHERE weights IS NOT NULL")
    assert versions[0] == ("step_30.pt#mean3", 30, "mean3", "rosellm")
    assert asked(database, "SELECT count(*) FROM jobs WHERE state = 'queued'") == [(6,)]


def test_status_says_why_there_is_no_mean_yet(database):
    saved(database, 10)
    plan(database)
    done = CliRunner().invoke(root, ["status", "--db", str(database.path)])
    assert "mean3      gpt: 1 of 3 checkpoints so far" in done.output


def test_the_claim_of_a_mean_names_its_members_with_their_pinned_copies_and_weights(database):
    for step in (10, 20, 30):
        saved(database, step, spool_path=f"/spool/{step}.pt")
    with database.store.write() as tx:
        tx.execute(text("UPDATE jobs SET order_key = (SELECT mtime_ns FROM checkpoints c WHERE c.id = checkpoint_id)"))
    plan(database, AverageSpec(ema=0.5))
    opens = {"id": "launch", "owner": "me", "executor": "local", "folder": "/l", "device": "cpu", "world_size": 1}
    opens["started_at"] = NOW
    claimed = queue.claim_next(database.store, {"gpt": "newest"}, "launch", NOW, opens=opens)
    assert claimed.members == () and claimed.step == 30  # the newest checkpoint first, then its mean
    claimed = queue.claim_next(database.store, {"gpt": "newest"}, "launch", NOW)
    assert claimed.shown_path == "step_30.pt#ema0.5"
    assert [(m.path, m.spool_path) for m in claimed.members] == [
        (f"step_{s}.pt", f"/spool/{s}.pt") for s in (30, 20, 10)
    ]
    assert [m.weight for m in claimed.members] == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_members_stay_pinned_until_their_last_mean_is_final(database):
    for step in (10, 20, 30, 40):
        saved(database, step, spool_path=f"/spool/{step}.pt")
    plan(database)
    ended = {"state": "succeeded", "finished_at": NOW}
    with database.store.write() as tx:
        tx.execute(update(schema.jobs).where(schema.jobs.c.checkpoint_id <= 4).values(ended))
    averages.settle_averages(database.store)
    assert pins.unneeded_pins(database.store) == []
    with database.store.write() as tx:
        tx.execute(update(schema.jobs).values(ended))
    averages.settle_averages(database.store)
    assert pins.unneeded_pins(database.store) == [(1, "/spool/10.pt")]  # the others are for the next mean


def test_a_step_saved_again_supersedes_every_mean_of_it(database):
    for step in (10, 20, 30):
        saved(database, step)
    plan(database)
    database.result(30, 1.0, checkpoint="step_30.pt#mean3", weights="mean3", checkpoint_digest=mean_digest(database))
    with database.store.write() as tx:
        tx.execute(update(schema.checkpoints).where(schema.checkpoints.c.id == 2).values(superseded=1))
    saved(database, 20, path="step_20.pt", digest="sha256:again")
    assert plan(database) == ["step_20.pt#mean3"]
    assert asked(database, "SELECT state FROM averages WHERE checkpoint_id = 4") == [("superseded",)]
    assert asked(database, "SELECT superseded FROM results") == [(1,)]
    assert asked(database, "SELECT kind FROM jobs WHERE checkpoint_id = 4") == [("superseded",)]
    assert asked(database, MEMBERS.format("ready")) == [("step_20.pt#mean3", "20,30,10")]


def mean_digest(database):
    return asked(database, "SELECT digest FROM checkpoints WHERE weights = 'mean3'")[0][0]


def test_a_copy_under_another_name_a_second_file_of_a_step_and_skipped_ones_make_no_mean_of_their_own(database):
    for step in (10, 20, 30):
        saved(database, step)
    saved(database, 30, path="latest.pt", digest="sha256:gpt-30")  # the same content
    saved(database, 40, skipped=True)
    assert plan(database) == ["step_30.pt#mean3"]
    saved(database, 40, path="best.pt")
    assert plan(database) == ["best.pt#mean3"]
    assert asked(database, MEMBERS.format("ready"))[1] == ("best.pt#mean3", "40,30,20")


def test_every_takes_multiples_of_a_step_only(database):
    for step in (5, 10, 15, 20, 25, 30):
        saved(database, step)
    assert plan(database, AverageSpec(last=2, every=10)) == ["step_20.pt#mean2/10", "step_30.pt#mean2/10"]


def test_a_member_that_was_overwritten_without_a_pin_is_left_out(database):
    for step in (10, 20):
        saved(database, step)
    plan(database)
    with database.store.write() as tx:
        tx.execute(update(schema.checkpoints).where(schema.checkpoints.c.id == 1).values(superseded=1))
    saved(database, 30)
    assert plan(database) == []
    assert asked(database, "SELECT reason FROM averages") == [("2 of 3 checkpoints so far",)]
