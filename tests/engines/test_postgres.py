"""The store on a real PostgreSQL server: the conformance suite, daemons that compete and die, a history that moves."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.engines.postgres_server import Server
from tests.support.daemon import Site
from tests.support.database import Database
from tests.support.tiny import write_tiny
from tests.support.waiting import wait_until
from tests.watcher.store.test_conformance import *  # noqa: F403 -- the same tests on this module's `store_url`
from tests.watcher.store.test_conformance import claim, prepare, succeed
from watcher.store import schema
from watcher.store.migrate import open_for_writing
from watcher.store.read import queue as queues
from watcher.store.read import results
from watcher.store.write import attempts, launches, outbox, queue

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

DOUBLED = """SELECT checkpoint, count(*) FROM results
             GROUP BY run, checkpoint, checkpoint_digest, eval_set, eval_digest HAVING count(*) > 1"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def store_url(server) -> str:
    return server.database()


@pytest.fixture
def sites(server, store_url, tmp_path) -> Iterator[list[Site]]:
    """Two hosts, as far as the database can tell: one watched folder and one server, state folders of their own."""
    made = []
    for name in ("a", "b"):
        root = tmp_path / name
        root.mkdir()
        store = {"url": store_url, "state_dir": root / "state"}
        made.append(Site(root, run={"dir": tmp_path / "out"}, store=store, launch={"linger_s": 0.2}))
    yield made
    for site in made:
        site.end()


def finished(server: Server, url: str) -> int:
    return server.query(url, "SELECT count(*) FROM results")[0][0]


def test_two_daemons_share_one_queue_and_one_that_is_killed_loses_and_doubles_nothing(
    server, store_url, sites, tmp_path
):
    for step in range(1, 61):
        write_tiny(tmp_path / "out" / f"step_{step}.pt", step)
    for site in sites:
        site.start()
    wait_until(lambda: finished(server, store_url) >= 10, 60, "the first rows")
    killed = sites[0]
    wait_until(lambda: server.query(store_url, open_of(killed)), 60, "a launch of the first daemon")
    os.kill(killed.started[-1].pid, signal.SIGKILL)
    killed.started[-1].wait(10)
    for step in range(61, 81):
        write_tiny(tmp_path / "out" / f"step_{step}.pt", step)
    # The lease of the dead one runs out now instead of in a minute.
    server.query(store_url, "UPDATE launches SET lease_expires_at = '2000' WHERE finished_at IS NULL RETURNING 1")
    wait_until(lambda: finished(server, store_url) == 80, 120, sites[1].log())
    assert server.query(store_url, DOUBLED) == []
    assert server.query(store_url, "SELECT state, count(*) FROM jobs GROUP BY state") == [("succeeded", 80)]
    assert server.query(store_url, "SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(0,)]
    workers = server.query(store_url, "SELECT DISTINCT instance_id FROM launches")
    assert len(workers) == 2, "both took part"
    assert sites[1].stop() == 0


def test_a_daemon_that_starts_again_rescues_its_own_at_once_and_leaves_the_others_alone(
    server, store_url, sites, tmp_path
):
    for step in range(1, 5):
        write_tiny(tmp_path / "out" / f"step_{step}.pt", step)
    store = open_for_writing(store_url)
    try:
        sites[1].start()
        wait_until(lambda: finished(server, store_url) == 4, 60, sites[1].log())
        prepare(store, steps=1, run="elsewhere")
        other = queue.claim_next(
            store, {"elsewhere": "newest"}, "launch-x", "2030-01-01T00:00:00Z",
            opens={"id": "launch-x", "owner": "far:boot:1", "home": "far", "executor": "local", "folder": "/far",
                   "device": "cpu", "world_size": 1, "started_at": "2026-01-01T00:00:00Z"},
        )  # fmt: skip
        assert other is not None
        sites[1].kill()
        sites[1].start()
        assert "rescued" not in sites[1].log()
        assert server.query(store_url, "SELECT state FROM jobs WHERE run = 'elsewhere'") == [("running",)]
    finally:
        store.close()


def test_threads_that_claim_at_once_get_every_job_once(store_url):
    first = open_for_writing(store_url)
    prepare(first, steps=40, sets=("val", "code"))
    taken: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def work(name: str) -> None:
        store = open_for_writing(store_url)
        try:
            misses = 0
            while misses < 3:
                claimed = claim(store, name)
                misses = 0 if claimed else misses + 1
                if claimed:
                    taken.extend((claimed.id, job.id) for job in claimed.jobs)
                    succeed(store, claimed)
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    workers = [threading.Thread(target=work, args=(f"launch-{n}",)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    assert Counter(job for _, job in taken) == Counter({job: 1 for _, job in taken})
    assert queues.count_by_state(first) == {"succeeded": 80}
    assert len(results.result_rows(first)) == 80
    first.close()


def test_threads_that_register_the_same_files_at_once_make_one_of_each(store_url):
    first = open_for_writing(store_url)
    failures: list[BaseException] = []

    def work() -> None:
        store = open_for_writing(store_url)
        try:
            prepare(store, steps=20)
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    assert queues.count_by_state(first) == {"queued": 20}
    first.close()


def test_a_lease_that_ran_out_gives_the_job_back_and_makes_the_late_answer_void(store):
    prepare(store, steps=1)
    claimed = claim(store, home="silent")
    assert claimed is not None
    assert attempts.lapsed_held(store, "mine") == []
    assert launches.renew(store, ["launch-1"]) == {"launch-1"}
    with store.write() as tx:
        tx.execute(text("UPDATE launches SET lease_expires_at = '2000-01-01T00:00:00.000000Z'"))
    held = attempts.lapsed_held(store, "mine")
    assert [h.attempt.id for h in held] == [job.attempt for job in claimed.jobs]
    from watcher.domain.job import AttemptEnd, Cause, RetryPolicy, after_attempt

    for each in held:
        move = after_attempt(each.attempt.job, AttemptEnd(Cause.ORPHANED, False), RetryPolicy(), 0.5)
        attempts.end_attempts(store, [(each.attempt, move, None)], "2026-01-01T00:00:00Z")
    assert launches.close_lapsed(store, "mine", "2026-01-01T00:00:00Z") == ["host:boot:1"]
    assert launches.renew(store, ["launch-1"]) == set()
    assert succeed(store, claimed) == [None]
    again = claim(store, "launch-2")
    assert again is not None
    assert again.jobs[0].facts.charged == 0


def test_the_daemon_waits_for_a_server_that_goes_away_and_comes_back(server, store_url, sites, tmp_path):
    site = sites[0]
    write_tiny(tmp_path / "out" / "step_1.pt", 1)
    site.start()
    wait_until(lambda: finished(server, store_url) == 1, 60, site.log())
    server.stop()
    try:
        write_tiny(tmp_path / "out" / "step_2.pt", 2)
        wait_until(lambda: "paused: the database" in site.log(), 60, site.log())
        assert site.started[-1].poll() is None
    finally:
        server.start()
    wait_until(lambda: finished(server, store_url) == 2, 60, site.log())
    assert "resumed" in site.log()
    assert site.stop() == 0


def test_a_password_is_in_no_log_and_in_no_error(server, store_url, sites, tmp_path):
    site = sites[0]
    site.store["url"] = store_url.replace("postgres@", "postgres:sesame@")
    site.configure()
    site.start()
    assert "postgres:***@" in site.log()
    server_port = f":{server.port}/"
    refused = site.cli("results", "--db", site.store["url"].replace(server_port, ":1/"))
    assert refused.returncode == 7
    assert "sesame" not in refused.stderr + refused.stdout + site.log()


def open_of(site: Site) -> str:
    home = (Path(site.store["state_dir"]) / "identity").read_text()
    running = "SELECT 1 FROM launches l JOIN jobs j ON j.launch_id = l.id AND j.state = 'running'"
    return f"{running} WHERE l.instance_id = '{home}'"


def test_a_history_moves_from_sqlite_to_the_server_and_goes_on_there(server, store_url, sites, tmp_path):
    site = sites[0]
    site.store["url"] = tmp_path / "old.db"
    site.configure()
    for step in (1, 2):
        write_tiny(tmp_path / "out" / f"step_{step}.pt", step)
    assert site.once().returncode == 0
    moved = site.cli("db", "copy", store_url, "--json", "--db", str(tmp_path / "old.db"))
    assert moved.returncode == 0, moved.stderr
    assert finished(server, store_url) == 2
    again = site.cli("db", "copy", store_url, "--db", str(tmp_path / "old.db"))
    assert again.returncode == 7
    assert "not empty" in again.stderr
    site.store["url"] = store_url
    site.configure()
    write_tiny(tmp_path / "out" / "step_3.pt", 3)
    on_server = site.once()
    assert on_server.returncode == 0, on_server.stderr
    rows = server.query(store_url, "SELECT id, step FROM results ORDER BY id")
    assert rows == [(1, 2), (2, 1), (3, 3)] or rows == [(1, 1), (2, 2), (3, 3)]
    assert server.query(store_url, "SELECT count(*) FROM jobs") == [(3,)]


def test_a_result_that_commits_late_with_a_lower_id_reaches_every_sink(store_url):
    """Two daemons record at once: the transaction with the lower id commits after the higher one was swept."""
    database = Database(store_url)  # type: ignore[arg-type]
    database.run()
    database.eval_set()
    known, before, higher = (database.result(step, 3.0) for step in (100, 200, 300))
    store, at = database.store, "2026-01-01T00:00:00.000000Z"

    def sweep() -> int:
        with store.write() as tx:
            return outbox.sweep(tx, ["early", "late"], at)

    def signature() -> tuple:
        with store.read() as tx:
            return outbox.signature(tx)

    with store.write() as tx:
        held = dict(tx.execute(text("SELECT * FROM results WHERE id = :id"), {"id": before}).mappings().one())
        tx.execute(text("DELETE FROM results WHERE id = :id"), {"id": before})
        outbox.adopt(tx, ["early"], at)
    with store.engine.connect() as other:  # another daemon's open transaction
        other.execute(schema.results.insert().values(held))
        with store.write() as tx:
            outbox.adopt(tx, ["late"], at)
        assert sweep() == 0
        signed = signature()
        other.commit()
    assert signature() != signed, "the late row is noticed without another result"
    assert [sweep(), sweep()] == [2, 0]
    with store.read() as tx:
        for sink in ("early", "late"):
            assert [export.subject_id for export in outbox.pending(tx, sink, 10, at)] == [before]
    assert known < before < higher
    database.close()
