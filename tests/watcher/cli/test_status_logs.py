"""`status` and `logs`: the daemon seen from outside through its lock, its health file and the launch's own files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from evalcore.launch_folder import LaunchFolder
from evalcore.messages import to_json
from evalcore.progress import Progress
from tests.support.database import small_run
from tests.support.sample_rows import sample_set
from watcher.domain.health import LockFacts, LockState, judge_from_outside
from watcher.domain.timestamps import iso
from watcher.report.progress import bar
from watcher.report.running import queue_eta_s, with_progress
from watcher.state.folder import StateFolder
from watcher.state.lock import Lock
from watcher.store.schema import jobs


@contextmanager
def daemon_of(database, *, at_s=None, **said):
    """The marks of a living daemon: its lock and its health file."""
    folder = StateFolder.beside(str(database))
    folder.create()
    lock = Lock(folder.lock)
    lock.take()
    at = iso(time.time() if at_s is None else at_s)
    run = {
        "name": "gpt",
        "dir": "/training/gpt",
        "matching": 3,
        "settling": 0,
        "ignored": {"x": 2},
        "scan_seconds": 0.01,
    }
    health = {"pid": os.getpid(), "started_at": at, "at": at, "state": "ok", "reasons": [], "runs": [run]}
    folder.health.write_text(json.dumps({**health, **said}))
    try:
        yield folder
    finally:
        lock.release()


def test_a_healthy_daemon_is_status_0_and_tells_queue_and_results(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.job(database.checkpoint(400), "queued")
    with daemon_of(tmp_path / "r.db"):
        said = ckptwatch("status", "--json", "--db", tmp_path / "r.db")
        assert said.status == 0
        assert said.json["state"] == "ok"
        assert said.json["pid"] == os.getpid()
        assert said.json["queue"] == {"queued": 1, "succeeded": 3}
        assert said.json["lag_s"] > 0
        assert [row["step"] for row in said.json["last_results"]] == [300, 200, 100]
        text = ckptwatch("status", "--db", tmp_path / "r.db").out
        assert f"daemon     ok, pid {os.getpid()}" in text
        assert "1 queued, 0 running, 3 succeeded" in text
        assert "gpt: /training/gpt: 3 file(s) at the last full scan (10 ms), 2 ignored" in text


def test_no_daemon_is_10_stalled_11_degraded_12_each_with_its_reason(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("status", "--db", tmp_path / "r.db")
    assert said.status == 10
    assert "no daemon runs on this database" in said.out
    with daemon_of(tmp_path / "r.db", at_s=time.time() - 300):
        said = ckptwatch("status", "--db", tmp_path / "r.db")
        assert said.status == 11
        assert "was 300 s ago" in said.out
    for state in ("degraded", "paused"):
        with daemon_of(tmp_path / "r.db", state=state, reasons=["run gpt: the folder is gone"]):
            said = ckptwatch("status", "--db", tmp_path / "r.db")
            assert said.status == 12
            assert "the folder is gone" in said.out


def test_before_anything_ran_status_is_10_and_no_error(ckptwatch):
    said = ckptwatch("status", "--json")
    assert (said.status, said.json["state"], said.json["queue"]) == (10, "down", {})


def test_the_password_of_a_database_server_is_told_nowhere(ckptwatch):
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/none"
    for verb in ("status", "results"):
        said = ckptwatch(verb, "--db", url)
        assert said.status in (7, 10)
        assert "127.0.0.1:1/none" in said.out + said.err
        assert "hunter2" not in said.out + said.err


def test_the_process_ends_with_the_same_status(tmp_path):
    small_run(tmp_path / "r.db").close()
    command = [sys.executable, "-m", "watcher.cli", "status", "--db", str(tmp_path / "r.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (10, "")


def test_a_database_that_cannot_be_used_makes_a_healthy_daemon_degraded(ckptwatch, tmp_path):
    (tmp_path / "r.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    with daemon_of(tmp_path / "r.db"):
        said = ckptwatch("status", "--json", "--db", tmp_path / "r.db")
    assert said.status == 12
    assert "another program" in " ".join(said.json["reasons"])


def test_a_daemon_has_a_minute_to_say_its_first_word():
    before = {"pid": 1, "at": "2026-01-01T00:00:00.000000Z", "state": "stopped"}
    assert judge_from_outside(before, LockFacts(LockState.HELD, pid=2, age_s=5.0), 1e9).state == "starting"
    assert judge_from_outside(None, LockFacts(LockState.HELD, pid=2, age_s=61.0), 1e9).exit_code == 11
    assert judge_from_outside(before, LockFacts(LockState.FREE), 1e9).exit_code == 10


def launch_at_work(database, root):
    """The folder of a launch that evaluates step 400, and its attempt."""
    launch = LaunchFolder(root)
    launch.create()
    return launch, database.launch(database.job(database.checkpoint(400), "running"), root)


def test_a_running_job_shows_how_far_it_is_and_what_is_left(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    launch, attempt = launch_at_work(database, tmp_path / "launch")
    launch.started(attempt).touch()
    now_s = time.time()
    launch.progress.write_text(to_json(Progress("evaluating", 25, 100, "windows", "val", attempt, now_s - 10, now_s)))
    with daemon_of(tmp_path / "r.db"):
        said = ckptwatch("status", "--json", "--db", tmp_path / "r.db")
        running = said.json["running"][0]
        assert (running["step"], running["share"], running["phase"]) == (400, 0.25, "evaluating")
        assert 0 < running["eta_s"] <= 30.0
        text = ckptwatch("status", "--db", tmp_path / "r.db").out
        assert "evaluating  [###.........] 25/100 windows" in text


def test_samples_are_counted_apart_and_are_no_part_of_the_time_left(ckptwatch, tmp_path):
    """Losses: one queued, none running. Samples: one queued, and one that needs 90 s more."""
    database = small_run(tmp_path / "r.db")
    newest = database.checkpoint(400)
    database.job(newest, "queued")
    prompts = sample_set(database, ("a",))
    database.job(database.checkpoint(500), "queued", eval_set_id=prompts)
    sampling = database.job(newest, "running", eval_set_id=prompts, token="t")
    attempt = database.launch(sampling, tmp_path / "launch")
    launch, now_s = LaunchFolder(tmp_path / "launch"), time.time()
    launch.create()
    launch.started(attempt).touch()
    work = Progress("sampling", 1, 10, "texts", "stories", attempt, now_s - 10, now_s)
    launch.progress.write_text(to_json(work))
    facts = ckptwatch("status", "--json", "--db", tmp_path / "r.db").json
    seconds = sum(row["load_seconds"] + row["eval_seconds"] for row in facts["last_results"]) / 3
    assert facts["queue"] == {"queued": 1, "succeeded": 3} and facts["samples"] == {"queued": 1, "running": 1}
    assert [row["set_kind"] for row in facts["running"]] == ["sample"]
    assert facts["eta_s"] == pytest.approx(seconds) and seconds < 60 < facts["running"][0]["eta_s"]
    text = ckptwatch("status", "--db", tmp_path / "r.db").out
    assert "jobs       1 queued, 0 running, 3 succeeded, 0 failed, 0 cancelled\nsamples    1 queued, 1 running" in text


def test_a_job_whose_text_is_tokenised_first_shows_the_bytes(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    launch, attempt = launch_at_work(database, tmp_path / "launch")
    now = Progress("tokenising", 3 << 20, 4 << 20, "bytes", "val", attempt, time.time() - 30, time.time())
    launch.progress.write_text(to_json(now))
    with daemon_of(tmp_path / "r.db"):
        running = ckptwatch("status", "--json", "--db", tmp_path / "r.db").json["running"][0]
        assert (running["phase"], running["share"], running["unit"]) == ("tokenising", 0.75, "bytes")
        assert 5 < running["eta_s"] <= 10
        text = ckptwatch("status", "--db", tmp_path / "r.db").out
        assert "tokenising  [#########...] 3.0 MiB of 4.0 MiB" in text


def test_what_the_daemon_itself_is_long_at_is_told(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db")
    scan = Progress("scanning", 51_234, 0, "files", "gpt", since=time.time() - 40, at=time.time())
    hashing = Progress("hashing", 1 << 30, 4 << 30, "bytes", "val", since=time.time() - 10, at=time.time())
    with daemon_of(tmp_path / "r.db", work=[asdict(scan), asdict(hashing)]):
        said = ckptwatch("status", "--db", tmp_path / "r.db")
        assert "working    scanning gpt: 51,234 files\n" in said.out
        left = re.search(r"working    hashing val: 1\.0 GiB of 4\.0 GiB, (\d+) s left", said.out)
        assert left is not None and 10 <= int(left[1]) <= 30, said.out  # less the time until status reads it
        assert ckptwatch("status", "--json", "--db", tmp_path / "r.db").json["work"][0]["done"] == 51_234


def test_the_time_left_is_what_the_windows_to_come_take():
    keys = ("run", "checkpoint", "step", "eval_set", "set_kind", "device", "launch", "claimed_at")
    job = {"job": 1, "attempt": 5, **dict.fromkeys(keys)}
    said = asdict(Progress("evaluating", 10, 40, "windows", "val", 5, since=100.0, at=120.0))
    assert with_progress(job, said, 120.0)["eta_s"] == pytest.approx(60.0)
    assert with_progress(job, said, 130.0)["eta_s"] == pytest.approx(50.0)
    other = with_progress(job, {**said, "attempt": 4}, 120.0)
    assert (other["eta_s"], other["phase"]) == (None, "assigned, not started")
    before = with_progress(job, asdict(Progress("importing")), 120.0)
    assert (before["phase"], before["share"], before["progress"]) == ("importing", None, "")
    recent = [{"load_seconds": 1.0, "eval_seconds": 9.0}]
    assert queue_eta_s(5, [{"eta_s": 60.0}], recent, 1) == pytest.approx(110.0)
    assert queue_eta_s(5, [], [], 1) is None
    assert bar(0.5, 4) == "[##..]"


def test_watch_shows_a_new_state_by_itself(tmp_path):
    database = small_run(tmp_path / "r.db")
    command = [sys.executable, "-m", "watcher.cli", "status", "--watch", "--interval", "0.1", "--json", "--db"]
    with subprocess.Popen([*command, str(tmp_path / "r.db")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["queue"] == {"succeeded": 3}
            database.job(database.checkpoint(400), "queued")
            deadline_s = time.monotonic() + 20
            while json.loads(process.stdout.readline())["queue"].get("queued") != 1:
                assert time.monotonic() < deadline_s
        finally:
            process.send_signal(2)
            assert process.wait(10) == 130


def test_logs_are_escaped_and_end_with_the_jobs_reason(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    job = database.job(database.checkpoint(400), "failed", reason="a record's CRC is wrong")
    launch = LaunchFolder(tmp_path / "launch")
    launch.create()
    launch.log.write_bytes(b"loading\n\x1b[31mboom\xff\n")
    database.launch(job, launch.root, open_=False)
    said = ckptwatch("logs", job, "--db", tmp_path / "r.db")
    assert said.status == 0
    assert said.out == "loading\n\\x1b[31mboom\\xff\n"
    assert f"job {job} is failed: corrupt: a record's CRC is wrong" in said.err
    assert ckptwatch("logs", job, "--json", "--db", tmp_path / "r.db").json["log"] == said.out
    assert ckptwatch("logs", "gpt", "--db", tmp_path / "r.db").out == said.out
    assert ckptwatch("logs", "val", "--db", tmp_path / "r.db").out == said.out


def test_logs_of_an_unknown_or_never_launched_job_are_status_4(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    waiting = database.job(database.checkpoint(400), "queued")
    said = ckptwatch("logs", 99, "--db", tmp_path / "r.db")
    assert said.status == 4
    assert f"the nearest is {waiting}" in said.err
    assert ckptwatch("logs", waiting, "--db", tmp_path / "r.db").status == 4


def test_logs_are_followed_until_the_job_is_over(tmp_path):
    database = small_run(tmp_path / "r.db")
    job = database.job(database.checkpoint(400), "running")
    launch = LaunchFolder(tmp_path / "launch")
    launch.create()
    launch.log.write_text("first\n")
    database.launch(job, launch.root)
    command = [sys.executable, "-m", "watcher.cli", "logs", str(job), "-f", "--db", str(tmp_path / "r.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(30, process.kill)
        killer.start()
        assert process.stdout.readline() == "first\n"
        with open(launch.log, "a") as log:
            log.write("second\n")
        assert process.stdout.readline() == "second\n"
        over = {"state": "succeeded", "token": None, "finished_at": iso(time.time())}
        with database.store.write() as tx:
            tx.execute(jobs.update().where(jobs.c.id == job).values(over))
        assert process.wait(20) == 0
        killer.cancel()


def test_status_names_the_run_of_its_newest_results_where_it_watches_several(ckptwatch, tmp_path):
    database = small_run(tmp_path / "ckptwatch.db")
    database.close()
    one = {"matching": 3, "settling": 0, "ignored": {}, "scan_seconds": 0.01, "dir": "/training"}
    with daemon_of(tmp_path / "ckptwatch.db", runs=[{**one, "name": "gpt"}, {**one, "name": "other"}]):
        table = ckptwatch("status").out
    assert re.search(r"run +step +loss", table) and re.search(r"gpt +300 ", table)  # all rows are of gpt
