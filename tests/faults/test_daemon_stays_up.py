"""The daemon stays up: faults stay in the part that has them, and one database has one writer and one state folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.checkpoints import save_rosellm
from tests.support.daemon import PYTHON, ROOT, Site, wait_until
from tests.support.database import Database
from tests.support.tiny import write_tiny


def start_patched(here: Site, code: str) -> subprocess.Popen:
    """A daemon in which `code` has been executed first: the fault itself, in an otherwise real process."""
    log = open(here.root / f"daemon-{len(here.started)}.log", "wb")
    program = f"{code}\nfrom watcher.cli import main\nraise SystemExit(main())"
    command = [PYTHON, "-c", program, *here.command("run")[3:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=here.root, stdout=log, stderr=log, env=environment)
    log.close()
    here.started.append(process)
    wait_until(lambda: "watching" in here.log() or process.poll() is not None)
    assert process.poll() is None, here.log()
    return process


def elsewhere(here: Site, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """A verb without the site's settings file, from another folder: it knows only --db."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-m", "watcher.cli", *arguments, "--db", str(here.database)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60)


# -- one database: one writer, one state folder ------------------------------------------------------------------------


@pytest.mark.short
def test_row_181_a_second_daemon_on_the_same_file_under_another_name_ends_and_kills_no_job(site):
    here = site(rules=[{"do": "answer", "pause_s": 4}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    other = here.root / "container"
    other.mkdir()
    os.link(here.database, other / "results.db")
    second = here.once("--db", str(other / "results.db"))
    assert second.returncode == 6, second.stderr
    assert "another path" in second.stderr and "Traceback" not in second.stderr
    order = subprocess.run(
        here.command("queue", "bump", "--all", "--db", str(other / "results.db")), capture_output=True, text=True,
        cwd=here.root, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert order.returncode in (0, 6), order.stderr  # 0: no job was left to bump
    assert not list((other / "results.db.state" / "inbox").glob("*.json")), "an order that nobody will read"
    assert list(here.wait_for_results(1)) == ["step_1.pt"]
    assert here.jobs() == [("step_1.pt", "succeeded", None, 1, 0)]
    assert here.stop(daemon) == 0
    assert here.once("--db", str(other / "results.db")).returncode == 0, "the lock outlived its holder"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_row_181_a_bind_mounted_database_is_the_same_database(site):
    here = site()
    daemon = here.start()
    other = here.root / "mounted.db"
    other.touch()
    if subprocess.run(["mount", "--bind", here.database, other], capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        second = here.once("--db", str(other))
    finally:
        subprocess.run(["umount", "-l", other], check=True)
    assert second.returncode == 6, second.stderr
    assert here.stop(daemon) == 0


@pytest.mark.short
def test_row_194_an_order_reaches_a_daemon_whose_state_folder_was_chosen(site, tmp_path):
    here = site(store={"state_dir": tmp_path / "chosen"})
    here.start()
    away = tmp_path / "away"
    away.mkdir()
    paused = elsewhere(here, "queue", "pause", cwd=away)
    assert (paused.returncode, "sent to the daemon" in paused.stderr) == (0, True), paused.stderr
    wait_until(lambda: (tmp_path / "chosen" / "paused").exists())
    status = elsewhere(here, "status", "--json", cwd=away)
    assert json.loads(status.stdout)["state_dir"] == str(tmp_path / "chosen")
    assert here.stop() == 0


@pytest.mark.short
def test_row_195_a_state_folder_that_is_a_file_or_a_deleted_working_folder_is_one_sentence(site, tmp_path):
    (tmp_path / "occupied").write_text("a file")
    here = site(store={"state_dir": tmp_path / "occupied"})
    done = here.once()
    assert (done.returncode, "occupied" in done.stderr, "Traceback" in done.stderr) == (3, True, False), done.stderr
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    deleted = subprocess.run(
        ["sh", "-c", script, "sh", PYTHON, "-m", "watcher.cli", "status"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (deleted.returncode, "Traceback" in deleted.stderr) == (7, False), deleted.stderr
    assert "working folder" in deleted.stderr


# -- what is changed under a running daemon ----------------------------------------------------------------------------


@pytest.mark.short
def test_row_182_a_reload_while_the_database_is_locked_keeps_watching_and_is_applied_later(site):
    here = site()
    daemon = here.start()
    wait_until(lambda: here.health().get("state") == "ok")
    other = sqlite3.connect(here.database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    here.launch["env"] = ["MADE_UP"]
    here.configure()
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "paused: the database" in here.log(), within_s=60)
    write_tiny(here.folder / "step_1.pt", 1)
    other.execute("ROLLBACK")
    other.close()
    assert list(here.wait_for_results(1)) == ["step_1.pt"]
    wait_until(lambda: "settings reloaded" in here.log())
    assert here.stop(daemon) == 0


@pytest.mark.short
def test_row_187_a_reload_applies_the_variables_that_jobs_may_see(site):
    here = site(rules=[{"do": "dump"}], launch={"linger_s": 0.0})
    daemon = here.start(MADE_UP="42")
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    assert "MADE_UP" not in json.loads((here.notes / "dump.json").read_text())["env"]
    here.launch["env"] = ["MADE_UP"]
    here.configure()
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in here.log())
    write_tiny(here.folder / "step_2.pt", 2)
    here.wait_for_results(2)
    assert json.loads((here.notes / "dump.json").read_text())["env"]["MADE_UP"] == "42"
    assert here.stop(daemon) == 0


def remove_while_it_is_written(folder):
    """Remove a folder as a person does who repeats `rm -rf` after "Directory not empty": the daemon writes into it."""
    while folder.exists():
        try:
            shutil.rmtree(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise


@pytest.mark.short
def test_row_183_a_state_folder_that_is_removed_is_made_again_and_still_locked(site):
    here = site()
    daemon = here.start()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    remove_while_it_is_written(here.state)
    write_tiny(here.folder / "step_2.pt", 2)
    assert sorted(here.wait_for_results(2)) == ["step_1.pt", "step_2.pt"]
    assert "was removed" in here.log()
    assert here.once().returncode == 6
    wait_until(lambda: here.health().get("pid") == daemon.pid)
    assert here.stop(daemon) == 0


@pytest.mark.short
def test_row_185_jobs_of_a_run_that_is_no_longer_watched_do_not_make_health_bad(site):
    here = site()
    database = Database(here.database)
    database.run("removed", "/training/removed")
    database.eval_set("removed")
    database.job(database.checkpoint(1, "removed"), "queued", "removed")
    database.close()
    here.start()
    wait_until(lambda: here.health().get("queue") == {"queued": 1})
    assert (here.health()["state"], here.health()["reasons"]) == ("ok", [])
    assert here.stop() == 0


# -- faults stay where they are ----------------------------------------------------------------------------------------


@pytest.mark.short
def test_row_192_an_unforeseen_error_of_one_run_stops_neither_the_other_run_nor_the_daemon(site):
    here = site()
    bad = here.root / "bad"
    bad.mkdir()
    with open(here.config, "a") as file:
        file.write(f'\n[[run]]\nname = "bad"\ndir = "{bad}"\n')
    daemon = start_patched(
        here,
        "from watcher.pipeline.intake import Intake; real = Intake.tick\n"
        "def tick(self, now_s):\n"
        "    if self.run.name == 'bad': raise ValueError('made up')\n"
        "    return real(self, now_s)\n"
        "Intake.tick = tick",
    )
    write_tiny(here.folder / "step_1.pt", 1)
    assert list(here.wait_for_results(1)) == ["step_1.pt"]
    wait_until(lambda: any("run bad failed" in reason for reason in here.health().get("reasons", [])))
    assert here.health()["state"] == "degraded"
    assert "Traceback" in here.log() and "ValueError: made up" in here.log()
    assert here.stop(daemon) == 0


def test_row_192_a_single_pass_ends_when_a_part_fails_again_and_again(site):
    here = site()
    code = (
        "from watcher.pipeline.intake import Intake\n"
        "def tick(self, now_s): raise ValueError('made up')\n"
        "Intake.tick = tick\n"
        "from watcher.cli import main\nraise SystemExit(main())"
    )
    done = subprocess.run(
        [PYTHON, "-c", code, *here.command("run", "--once")[3:]], cwd=here.root, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "run run failed 3 times: ValueError: made up" in done.stderr


@pytest.mark.short
def test_row_193_an_answer_that_cannot_be_recorded_costs_its_own_job_only(site):
    here = site(launch={"attempts": 2, "backoff_s": 0.05})
    write_tiny(here.folder / "step_1.pt", 1)
    write_tiny(here.folder / "step_2.pt", 2)
    daemon = start_patched(
        here,
        "from watcher.store.write import results; real = results.record\n"
        "def record(store, attempt, *rest, **more):\n"
        "    if attempt.job.id == 1: raise OverflowError('made up')\n"
        "    return real(store, attempt, *rest, **more)\n"
        "results.record = record",
    )
    here.wait_for_job("failed")
    here.wait_for_job("succeeded")
    states = sorted(job[1:4] for job in here.jobs())
    assert states == [("failed", "protocol", 2), ("succeeded", None, 1)]
    assert "OverflowError" in here.log()
    here.assert_sound()
    assert here.stop(daemon) == 0


@pytest.mark.short
def test_row_196_an_order_that_cannot_be_carried_out_is_set_aside_and_the_next_one_is_done(site):
    here = site()
    here.start()
    inbox = here.state / "inbox"
    (inbox / "00000000000000000001-1.json").write_text(json.dumps({"action": "bump", "jobs": [10**30]}))
    (inbox / "00000000000000000002-1.json").write_text(json.dumps({"action": "pause", "jobs": []}))
    wait_until(lambda: (here.state / "paused").exists())
    assert [path.name for path in (here.state / "refused_orders").iterdir()] == ["00000000000000000001-1.json"]
    assert "order 00000000000000000001-1.json refused" in here.log()
    assert here.stop() == 0


def edit(here: Site, *statements: str) -> None:
    """What a user does with the sqlite3 shell while the daemon runs."""
    connection = sqlite3.connect(here.database, isolation_level=None, timeout=30)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.short
def test_row_197_a_user_who_works_in_the_database_stops_nothing_and_loses_nothing(site):
    here = site(launch={"attempts": 1, "linger_s": 0.0})
    here.start()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    edit(
        here,
        "UPDATE results SET note = 'mine'",
        "CREATE TABLE notes (text)",
        "CREATE TRIGGER copied AFTER INSERT ON results BEGIN INSERT INTO notes VALUES (new.checkpoint); END",
        "VACUUM",
        "PRAGMA journal_mode = WAL",
    )
    write_tiny(here.folder / "step_2.pt", 2)
    here.wait_for_results(2)
    assert here.query("SELECT text FROM notes") == [("step_2.pt",)]
    assert here.query("SELECT note FROM results WHERE checkpoint = 'step_1.pt'") == [("mine",)]
    edit(
        here,
        "CREATE TRIGGER refused BEFORE INSERT ON results WHEN new.step = 3 BEGIN SELECT RAISE(ABORT, 'not this'); END",
    )
    write_tiny(here.folder / "step_3.pt", 3)
    write_tiny(here.folder / "step_4.pt", 4)
    assert sorted(here.wait_for_results(3)) == ["step_1.pt", "step_2.pt", "step_4.pt"]
    kind, reason = wait_until(lambda: here.failures().get("step_3.pt"))[:2]
    assert kind == "protocol" and "not this" in reason
    edit(here, "DROP TRIGGER refused")
    ((job,),) = here.query(
        "SELECT j.id FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id WHERE c.path = 'step_3.pt'"
    )
    assert here.cli("queue", "retry", str(job)).returncode == 0
    assert sorted(here.wait_for_results(4)) == ["step_1.pt", "step_2.pt", "step_3.pt", "step_4.pt"]
    edit(here, "UPDATE jobs SET state = 'queued', not_before = 'tomorrow', finished_at = NULL WHERE id = 1")
    write_tiny(here.folder / "step_5.pt", 5)
    here.wait_for_results(5)
    here.assert_sound()
    assert here.stop() == 0


# -- launches ----------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_row_190_eval_on_a_full_gpu_says_what_it_waits_for_and_what_to_do(site):
    here = site(launch={"device": "cuda", "reserve_bytes": 8 << 30})
    tools = here.root / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-1, 1000, 80000'\n")
    (tools / "nvidia-smi").chmod(0o755)
    path = write_tiny(here.folder / "step_1.pt", 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tools}:{os.environ['PATH']}"}
    for number, verb in enumerate((["eval", str(path)], ["run", "--once", "--quiet"])):
        log = here.root / f"words-{number}"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                here.command(*([verb[0], *verb[1:]] if verb[0] == "eval" else [verb[0], verb[1]])),
                cwd=here.root, stdout=output, stderr=output, env=environment,
            )  # fmt: skip
        here.started.append(process)
        wait_until(lambda log=log: "waiting for a device" in log.read_text())
        assert "--device cpu" in log.read_text() and "launch.reserve_bytes" in log.read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_row_188_a_launch_leaves_nothing_in_the_folder_for_temporary_files(site):
    """With the real torchrun, whose agent and ranks make folders of their own there."""
    here = site(fake=False)
    scratch = here.root / "scratch"
    scratch.mkdir()
    save_rosellm(here.folder / "step_1.pt", step=1, seed=1)
    done = here.once(TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    assert os.listdir(scratch) == []
    launch = next((here.state / "launches").iterdir())
    assert not (launch / "tmp").exists()
