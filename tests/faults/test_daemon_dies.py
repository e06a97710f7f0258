"""Rows of part H: the daemon is killed, stopped, paused, doubled. Fake worker, real processes, real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from tests.support.daemon import PYTHON, wait_until
from tests.support.tiny import write_tiny

SLOW = [{"do": "answer", "pause_s": 600}]
FAILPOINTS = ["after_claim", "after_spawn", "after_started", "before_record", "after_record", "after_register"]


@pytest.mark.parametrize("place", FAILPOINTS)
def test_row_61_daemon_killed_at_a_named_point_loses_and_doubles_nothing(site, place):
    here = site()
    for step in range(1, 4):
        write_tiny(here.folder / f"step_{step}.pt", step)
    first = here.start(wait=False, CKPTWATCH_FAILPOINT=f"{place}:kill9")
    assert first.wait(30) == -signal.SIGKILL, here.log()
    wait_until(lambda: not here.job_processes(), within_s=5)
    here.assert_sound()
    here.start()
    rows = here.wait_for_results(3)
    assert {path: len(losses) for path, losses in rows.items()} == {f"step_{n}.pt": 1 for n in (1, 2, 3)}
    assert [job[1:4] for job in here.jobs()] == [("succeeded", None, 1)] * 3
    here.assert_sound()


@pytest.mark.short
def test_row_81_daemon_killed_mid_evaluation_takes_its_workers_along_and_the_job_runs_again_uncharged(site):
    here = site(rules=[{"do": "answer", "pause_s": 600, "tries": 1}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    assert here.job_processes()
    here.kill(daemon)
    wait_until(lambda: not here.job_processes(), within_s=5)
    here.start()
    here.wait_for_results(1)
    assert here.jobs() == [("step_1.pt", "succeeded", None, 1, 1)]
    here.assert_sound()


def test_row_80_torchrun_killed_alone_takes_its_real_workers_along(site):
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False, launch={"backoff_s": 0.1})
    save_rosellm(here.folder / "step_1.pt", step=1)
    here.start(CKPTWATCH_WORKER_FAILPOINT="after_started:hang")
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    (torchrun,) = here.query("SELECT pid FROM launches ORDER BY started_at LIMIT 1")[0]
    before = set(here.job_processes())
    assert len(before) >= 2
    os.kill(torchrun, signal.SIGKILL)
    wait_until(lambda: not before & set(here.job_processes()), within_s=5)
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE outcome = 'failed' AND kind = 'crash'"))


def test_row_81_daemon_killed_beside_a_real_torchrun_leaves_no_process(site):
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False)
    save_rosellm(here.folder / "step_1.pt", step=1)
    daemon = here.start(CKPTWATCH_WORKER_FAILPOINT="mid_eval:hang")
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    assert here.job_processes()
    here.kill(daemon)
    wait_until(lambda: not here.job_processes(), within_s=5)
    here.start()
    here.wait_for_results(1)
    assert here.jobs() == [("step_1.pt", "succeeded", None, 1, 1)]
    here.assert_sound()


@pytest.mark.short
@pytest.mark.parametrize("rule", [{"do": "hang"}, {"do": "hang", "ignores_term": True, "ignores_cancel": True}])
def test_row_75_sigterm_ends_within_fifteen_seconds_and_gives_the_job_back_uncharged(site, rule):
    here = site(rules=[{**rule, "tries": 1}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    assert here.stop(daemon, within_s=15) == 0
    assert not here.job_processes()
    assert here.jobs() == [("step_1.pt", "queued", None, 0, 0)]
    assert here.query("SELECT outcome FROM attempts") == [("released",)]
    assert here.once().returncode == 0
    here.assert_sound()


def test_row_75_a_second_sigterm_ends_at_once(site):
    here = site(rules=[{"do": "hang", "ignores_term": True, "ignores_cancel": True}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    daemon.send_signal(signal.SIGTERM)
    wait_until(lambda: (next(iter((here.state / "launches").iterdir())) / "cancel").exists())
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(4) == 0
    assert not here.job_processes()
    assert here.jobs()[0][1] == "queued"


def test_row_75_any_number_of_sigterms_until_the_process_is_gone_ends_with_0(site):
    here = site()
    daemon = here.start()
    wait_until(lambda: here.health().get("state") == "ok")
    while daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
    assert daemon.returncode == 0


def test_row_75_sigint_ends_a_single_pass_with_130(site):
    here = site(rules=[{"do": "hang"}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start("--once")
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(15) == 130
    assert here.jobs()[0][1] == "queued"


def test_row_75_sighup_reloads_the_settings_and_keeps_the_old_ones_where_the_new_are_wrong(site):
    here = site()
    daemon = here.start()
    here.config.write_text(here.config.read_text().replace("settle_s", "setle_s"))
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings not reloaded" in here.log())
    here.run["include"] = ["*.pt", "*.ckpt"]
    here.configure()
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in here.log())
    write_tiny(here.folder / "step_1.ckpt", 1)
    assert list(here.wait_for_results(1)) == ["step_1.ckpt"]
    assert here.stop(daemon) == 0


def test_row_75_a_closed_stderr_and_stdout_do_no_harm(site):
    here = site()
    command = here.command("run")
    daemon = subprocess.Popen(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], cwd=here.root, stdin=subprocess.DEVNULL
    )
    here.started.append(daemon)
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    assert here.stop(daemon) == 0


def test_row_75_a_reader_of_stderr_that_goes_away_does_no_harm(site):
    here = site()
    reading, writing = os.pipe()
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    daemon = subprocess.Popen(
        here.command("run"), cwd=here.root, stdin=subprocess.DEVNULL, stderr=writing, env=buffered
    )
    here.started.append(daemon)
    os.close(writing)
    os.close(reading)
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    assert here.stop(daemon) == 0


@pytest.mark.short
def test_row_64_a_second_daemon_ends_at_once_and_names_the_first(site):
    here = site()
    daemon = here.start()
    second = here.once()
    assert second.returncode == 6
    assert str(daemon.pid) in second.stderr
    link = here.root / "link.db"
    link.symlink_to(here.database)
    third = here.once("--db", str(link))
    assert (third.returncode, str(daemon.pid) in third.stderr) == (6, True), third.stderr
    here.store["state_dir"] = here.root / "elsewhere"
    here.configure()
    fourth = here.once()
    assert (fourth.returncode, str(daemon.pid) in fourth.stderr) == (6, True), fourth.stderr
    here.kill(daemon)
    assert here.once().returncode == 4


def test_row_64_of_eight_racers_one_runs(site):
    here = site()
    racers = [here.start(wait=False) for _ in range(8)]
    wait_until(lambda: sum(racer.poll() is not None for racer in racers) == 7, within_s=90)
    assert sorted(r.returncode for r in racers if r.returncode is not None) == [6] * 7
    alive = next(r for r in racers if r.poll() is None)
    assert int((here.state / "lock").read_text().split()[0]) == alive.pid
    assert here.stop(alive) == 0


def test_row_60_a_stopped_daemon_goes_on_where_it_was_without_rescuing_itself(site):
    here = site(rules=[{"do": "answer", "pause_s": 3}], launch={"stall_s": 2.0})
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    daemon.send_signal(signal.SIGSTOP)
    wait_until(lambda: list((here.state / "launches").glob("*/outcomes/*.json")), within_s=20)
    daemon.send_signal(signal.SIGCONT)
    here.wait_for_results(1)
    assert here.jobs() == [("step_1.pt", "succeeded", None, 1, 0)]
    assert here.query("SELECT count(*) FROM attempts") == [(1,)]


@pytest.mark.parametrize("place", ["after_migration", "after_migration_commit"])
def test_row_62_killed_during_migration_the_database_has_the_old_schema_or_the_new(site, place):
    here = site()
    first = here.start(wait=False, CKPTWATCH_FAILPOINT=f"{place}:kill9")
    assert first.wait(30) == -signal.SIGKILL
    assert here.query("PRAGMA integrity_check") in ([], [("ok",)])
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    here.assert_sound()


def test_row_98_systemd_is_told_ready_after_the_first_scan_and_the_loop_itself_pings(site, tmp_path):
    here = site()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(tmp_path / "notify")
    listener.bind(address)
    listener.settimeout(20)
    daemon = here.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
    heard = []
    wait_until(lambda: heard.append(listener.recv(4096).decode()) or {"READY=1", "WATCHDOG=1"} <= set(heard))
    assert here.query("SELECT last_scan_at FROM runs")
    daemon.send_signal(signal.SIGSTOP)
    assert here.stop_hearing(listener)
    daemon.send_signal(signal.SIGCONT)
    assert here.stop(daemon) == 0
    wait_until(lambda: heard.append(listener.recv(4096).decode()) or "STOPPING=1" in heard[-1])


@pytest.mark.parametrize(
    "environment", [{"NOTIFY_SOCKET": "@nobody"}, {"WATCHDOG_USEC": "soon"}, {"NOTIFY_SOCKET": "/nowhere/x"}]
)
def test_row_98_a_wrong_notify_environment_does_no_harm(site, environment):
    here = site()
    here.start(**environment)
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    assert here.stop() == 0


def test_row_74_few_descriptors_pause_or_work_and_heal(site):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start(prefix=("prlimit", "--nofile=40:1024"))
    subprocess.run(["prlimit", f"--pid={daemon.pid}", "--nofile=14:1024"], check=True)
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: daemon.poll() is not None or here.results() or "cannot" in here.log(), within_s=20)
    assert daemon.poll() is None, here.log()
    subprocess.run(["prlimit", f"--pid={daemon.pid}", "--nofile=1024:1024"], check=True)
    here.wait_for_results(2)
    assert here.stop(daemon) == 0


def test_row_58_a_clock_that_jumps_neither_claims_twice_nor_expires(site):
    """A launch's limits run on the monotonic clock: nothing of it follows the wall clock."""
    here = site()
    code = (
        "import time, itertools; real = time.time; jump = itertools.cycle([0, -86400, 86400, -3600]);"
        "time.time = lambda: real() + next(jump);"
        "from watcher.cli import main; main()"
    )
    write_tiny(here.folder / "step_1.pt", 1)
    write_tiny(here.folder / "step_2.pt", 2)
    done = subprocess.run(
        [PYTHON, "-c", code, *here.command("run", "--once")[3:]],
        cwd=here.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [job[1:4] for job in here.jobs()] == [("succeeded", None, 1)] * 2
    here.assert_sound()
