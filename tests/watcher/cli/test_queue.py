"""`queue`: what is listed, what may be changed, and that an order is carried out where no daemon runs."""

from __future__ import annotations

from tests.support.database import small_run
from watcher.pipeline.ownership import own_database
from watcher.state.commands import take
from watcher.state.folder import StateFolder
from watcher.state.lock import Lock
from watcher.store.schema import jobs


def states(database) -> dict[int, tuple[str, int]]:
    with database.store.read() as tx:
        return {row.id: (row.state, row.priority) for row in tx.execute(jobs.select())}


def test_orders_are_carried_out_at_once_where_no_daemon_runs(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    waiting = database.job(database.checkpoint(400), "queued")
    failed = database.job(database.checkpoint(500), "failed", reason="no ranks")
    assert ckptwatch("queue", "bump", waiting, "--db", tmp_path / "r.db").status == 0
    assert states(database)[waiting] == ("queued", 1)
    assert ckptwatch("queue", "cancel", waiting, "--db", tmp_path / "r.db").status == 0
    assert ckptwatch("queue", "retry", failed, "--db", tmp_path / "r.db").status == 0
    assert (states(database)[waiting][0], states(database)[failed][0]) == ("cancelled", "queued")
    listed = ckptwatch("queue", "list", "--json", "--db", tmp_path / "r.db").json
    assert [row["job"] for row in listed] == [failed]


def test_a_running_daemon_gets_the_order_into_its_inbox(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    waiting = database.job(database.checkpoint(400), "queued")
    state = StateFolder.beside(str(tmp_path / "r.db"))
    state.create()
    lock = Lock(state.lock)
    lock.take()
    try:
        said = ckptwatch("queue", "bump", waiting, "--db", tmp_path / "r.db")
    finally:
        lock.release()
    assert (said.status, states(database)[waiting]) == (0, ("queued", 0))
    assert "sent to the daemon" in said.err
    assert [(order.action, tuple(order.jobs)) for _, order in take(state.inbox)] == [("bump", (waiting,))]


def test_an_order_is_refused_while_a_verb_that_reads_no_inbox_uses_the_database(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    waiting = database.job(database.checkpoint(400), "queued")
    owned = own_database(str(tmp_path / "r.db"), StateFolder.beside(str(tmp_path / "r.db")), "eval")
    try:
        said = ckptwatch("queue", "bump", waiting, "--db", tmp_path / "r.db")
        status = ckptwatch("status", "--db", tmp_path / "r.db")
    finally:
        owned.close()
    assert (said.status, "`ckptwatch eval`" in said.err) == (6, True), said.err
    assert take(owned.state.inbox) == []
    assert (status.status, "`ckptwatch eval` (pid" in status.out) == (10, True)


def test_a_job_that_is_not_there_or_not_in_the_right_state_is_said_to_be(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    done = next(job for job, (state, _) in states(database).items() if state == "succeeded")
    said = ckptwatch("queue", "bump", 999, "--db", tmp_path / "r.db")
    assert (said.status, "there is no job 999" in said.err) == (4, True)
    said = ckptwatch("queue", "bump", done, "--db", tmp_path / "r.db")
    assert (said.status, f"the state of job {done} is succeeded: bump is for queued jobs" in said.err) == (4, True)
    assert ckptwatch("queue", "retry", "--db", tmp_path / "r.db").status == 2


def test_an_order_for_all_jobs_where_there_are_none_is_not_sent(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db")
    state = StateFolder.beside(str(tmp_path / "r.db"))
    state.create()
    lock = Lock(state.lock)
    lock.take()
    try:
        said = ckptwatch("queue", "cancel", "--all", "--db", tmp_path / "r.db")
    finally:
        lock.release()
    assert (said.status, "there are no queued or running jobs" in said.err) == (0, True), said.err
    assert take(state.inbox) == []
