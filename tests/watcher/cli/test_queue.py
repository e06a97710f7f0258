"""`queue`: what is listed, what may be changed, and that an order is carried out where no daemon runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.database import Database, small_run
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


REASON = "the file names 12 heads in its configuration, but its tensors are those of a model with 16 heads"
HINT = "ckptwatch eval step_500.pt --data val.bin --model-config model.json"


def two_runs(path) -> Database:
    """small_run with a second run: a failed job and a queued one in each."""
    database = small_run(path)
    database.run("a-run-with-a-longer-name", "/training/other")
    database.eval_set("a-run-with-a-longer-name", "code")
    for run, name in (("gpt", "val"), ("a-run-with-a-longer-name", "code")):
        database.job(database.checkpoint(500, run), "failed", run, name, kind="shape", reason=REASON, hint=HINT)
        database.job(database.checkpoint(600, run), "queued", run, name)
    return database


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_list_has_every_column_whole_at_any_width(ckptwatch, tmp_path, monkeypatch, width):
    from watcher.cli import showing

    two_runs(tmp_path / "r.db").close()
    monkeypatch.setattr(showing, "terminal_width", lambda: width)
    failed = ckptwatch("queue", "list", "--failed", "--db", tmp_path / "r.db").out
    assert max(map(len, failed.splitlines())) <= width
    words = "".join(failed.split())
    assert "…" not in words
    for cell in (*"job run step set state age kind reason hint".split(), "shape", "500", "step_500.pt", "code"):
        assert cell in words, cell
    if width < 120:  # sentences stand below their row, wrapped at words only
        for sentence in (REASON, HINT):
            assert sentence in " ".join(failed.split())
    waiting = ckptwatch("queue", "list", "--db", tmp_path / "r.db").out
    assert {"600", "queued"} <= set(waiting.split())


def test_the_list_in_json_has_number_state_age_kind_reason_and_hint(ckptwatch, tmp_path):
    two_runs(tmp_path / "r.db").close()
    row = ckptwatch("queue", "list", "--failed", "--json", "--db", tmp_path / "r.db").json[0]
    names = [row[key] for key in ("run", "step", "eval_set", "state", "kind", "reason", "hint")]
    assert names == ["gpt", 500, "val", "failed", "shape", REASON, HINT]
    assert row["job"] == 4 and row["age_s"] > 0
    waiting = ckptwatch("queue", "list", "--json", "--db", tmp_path / "r.db").json
    assert all({"job", "kind", "hint", "age_s", "enqueued_at", "priority"} <= row.keys() for row in waiting)


def test_a_run_or_a_set_stands_for_its_jobs_that_may_be_changed(ckptwatch, tmp_path):
    database = two_runs(tmp_path / "r.db")
    said = ckptwatch("queue", "retry", "gpt", "--db", tmp_path / "r.db")
    assert (said.status, "1 job(s) changed" in said.err) == (0, True), said.err
    assert [states(database)[job][0] for job in (4, 6)] == ["queued", "failed"]
    assert ckptwatch("queue", "cancel", "--eval-set", "code", "--db", tmp_path / "r.db").status == 0
    assert states(database)[7][0] == "cancelled"
    said = ckptwatch("queue", "cancel", "gpt", "code", "--db", tmp_path / "r.db")
    assert "there are no queued or running jobs" in said.err  # no job of gpt is on code
    said = ckptwatch("queue", "cancel", "gptt", "--db", tmp_path / "r.db")
    assert (said.status, "did you mean 'gpt'?" in said.err) == (4, True)


def test_a_name_of_a_run_and_of_a_set_is_refused_with_the_flags_that_tell_them_apart(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.run("val", "/training/val")
    said = ckptwatch("queue", "cancel", "val", "--db", tmp_path / "r.db")
    assert (said.status, "--run val or --eval-set val" in said.err) == (2, True), said.err


def completed(tmp_path, words: str) -> list[str]:
    environment = {**os.environ, "COMP_WORDS": f"{words}", "COMP_CWORD": str(len(words.split(" ")) - 1)}
    environment |= {"_CKPTWATCH_COMPLETE": "bash_complete"}
    command = [sys.executable, "-c", "from watcher.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_the_shell_completes_job_numbers_runs_and_sets(tmp_path):
    two_runs(tmp_path / "r.db").close()
    db = f"--db {tmp_path}/r.db"
    offered = completed(tmp_path, f"ckptwatch queue retry {db} ")
    assert offered[:2] == ["6", "4"] and {"gpt", "a-run-with-a-longer-name", "val", "code"} <= set(offered)
    assert completed(tmp_path, f"ckptwatch queue cancel {db} 7") == ["7"]
    assert completed(tmp_path, f"ckptwatch logs {db} c") == ["code"]
    assert completed(tmp_path, "ckptwatch logs --db absent.db ") == []
