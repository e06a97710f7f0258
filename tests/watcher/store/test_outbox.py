"""The outbox: what sinks are owed follows from the tables, once, whatever happens between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support.database import Database, small_run
from watcher.domain.timestamps import iso
from watcher.store import schema
from watcher.store.write import outbox

AT = iso(1_800_000_000.0)
LATER = iso(1_800_000_100.0)


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    made = small_run(tmp_path / "a.db")
    yield made
    made.close()


def owed(database: Database, sink: str, at: str = AT) -> list[outbox.Export]:
    with database.store.read() as tx:
        return outbox.pending(tx, sink, 100, at)


def sweep(database: Database, *sinks: str, failures=()) -> int:
    with database.store.write() as tx:
        return outbox.sweep(tx, sinks, AT, failures)


def adopt(database: Database, *sinks: str, failures=()) -> None:
    with database.store.write() as tx:
        outbox.adopt(tx, sinks, AT, failures)


def test_a_new_sink_is_owed_what_comes_after_it_was_adopted_each_once(database):
    adopt(database, "csv")
    assert sweep(database, "csv") == 0
    first, second = database.result(400, 2.1), database.result(500, 2.0)
    assert [sweep(database, "csv"), sweep(database, "csv")] == [2, 0]
    assert [(one.kind, one.subject["id"], one.subject["step"]) for one in owed(database, "csv")] == [
        ("result", first, 400),
        ("result", second, 500),
    ]


def test_adopting_again_after_a_restart_changes_nothing_and_misses_nothing(database):
    adopt(database, "csv")
    database.result(400, 2.1)
    adopt(database, "csv")
    assert sweep(database, "csv") == 1


def test_two_sinks_are_owed_independently(database):
    adopt(database, "csv", "mlflow")
    database.result(400, 2.1)
    sweep(database, "csv", "mlflow")
    ids = [one.id for one in owed(database, "csv")]
    with database.store.write() as tx:
        outbox.mark_done(tx, ids, AT)
    with database.store.read() as tx:
        assert outbox.due(tx, ["csv", "mlflow"], AT) == {"mlflow": 1}
        assert outbox.due(tx, ["csv"], AT) == {}


def test_a_failed_row_waits_for_its_time_and_is_given_up_in_the_end(database):
    adopt(database, "csv")
    database.result(400, 2.1)
    sweep(database, "csv")
    ids = [one.id for one in owed(database, "csv")]
    with database.store.write() as tx:
        outbox.mark_failed(tx, ids, "no route to host", LATER)
    assert owed(database, "csv") == []
    assert [(one.tries) for one in owed(database, "csv", LATER)] == [1]
    with database.store.write() as tx:
        assert outbox.tries_of(tx, ids) == 1
        outbox.mark_failed(tx, ids, "no route to host", None)
    assert owed(database, "csv", LATER) == []


def test_what_is_done_stays_done_when_it_is_marked_late(database):
    adopt(database, "csv")
    database.result(400, 2.1)
    sweep(database, "csv")
    ids = [one.id for one in owed(database, "csv")]
    with database.store.write() as tx:
        assert [outbox.mark_done(tx, ids, AT), outbox.mark_done(tx, ids, AT)] == [1, 0]
        assert outbox.mark_failed(tx, ids, "too late", LATER) == 0


def test_failures_are_owed_once_and_again_when_they_happen_again(database):
    old = database.job(database.checkpoint(600), "failed")
    adopt(database, "alerts", failures=["alerts"])
    assert sweep(database, "alerts", failures=["alerts"]) == 0, "what had failed before is no news"
    new = database.job(database.checkpoint(700), "failed")
    assert [sweep(database, "alerts", failures=["alerts"]) for _ in range(2)] == [1, 0]
    (row,) = owed(database, "alerts")
    assert (row.kind, row.subject_id, row.subject["kind"]) == ("failure", new, "corrupt")
    with database.store.write() as tx:
        outbox.mark_done(tx, [row.id], AT)
        tx.execute(text("UPDATE jobs SET finished_at = :at WHERE id = :id"), {"at": LATER, "id": old})
    assert sweep(database, "alerts", failures=["alerts"]) == 1
    assert [one.subject_id for one in owed(database, "alerts")] == [old]


def test_a_file_that_cannot_be_registered_is_a_failure_too(database):
    from watcher.store.schema import candidates

    adopt(database, "alerts", failures=["alerts"])
    same = {"run": "gpt", "kind": "corrupt", "reason": "truncated", "at": AT}
    database._insert(candidates, path="a.pt", final=0, **same)
    database._insert(candidates, path="b.pt", final=1, **same)
    assert sweep(database, "alerts", failures=["alerts"]) == 1
    assert owed(database, "alerts")[0].subject["checkpoint"] == "b.pt"


def test_the_signature_changes_when_there_is_something_to_sweep(database):
    def signature():
        with database.store.read() as tx:
            return outbox.signature(tx)

    before = signature()
    assert signature() == before
    database.result(400, 2.1)
    between = signature()
    database.job(database.checkpoint(500), "failed")
    assert len({before, between, signature()}) == 3


def test_what_was_said_once_is_not_said_again(database):
    with database.store.write() as tx:
        assert outbox.enqueue_once(tx, "alert-1", "stalled", 7, AT)
        assert not outbox.enqueue_once(tx, "alert-1", "stalled", 7, AT)
        assert outbox.enqueue_once(tx, "alert-2", "stalled", 7, AT)


def test_a_result_that_commits_late_with_a_lower_id_is_found_by_the_next_sweep(database):
    """On a server another daemon's transaction may hold id 4 while id 5 is committed and swept."""
    adopt(database, "csv")
    late, early = database.result(400, 2.1), database.result(500, 2.0)
    with database.store.write() as tx:
        held_back = dict(tx.execute(text("SELECT * FROM results WHERE id = :id"), {"id": late}).mappings().one())
        tx.execute(text("DELETE FROM results WHERE id = :id"), {"id": late})
    assert sweep(database, "csv") == 1
    assert [export.subject_id for export in owed(database, "csv")] == [early]
    with database.store.write() as tx:
        tx.execute(schema.results.insert().values(held_back))
    assert [sweep(database, "csv"), sweep(database, "csv")] == [1, 0]
    assert sorted(export.subject_id for export in owed(database, "csv")) == [late, early]


def test_the_newest_sent_rows_are_compared_again_after_a_torn_file(database):
    adopt(database, "csv")
    numbers = [database.result(step, 2.0) for step in (400, 500, 600)]
    sweep(database, "csv")
    with database.store.write() as tx:
        outbox.mark_done(tx, [export.id for export in outbox.pending(tx, "csv", 10, AT)], AT)
        assert outbox.send_again(tx, "csv", 2) == 2
    assert [(export.subject_id, export.tries) for export in owed(database, "csv")] == [(n, 1) for n in numbers[1:]]
