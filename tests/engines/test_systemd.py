"""The shipped unit under a systemd that is really booted: ready, watched, reloaded, restarted, stopped."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines.container import REPO, Container, needed_programs
from tests.support.checkpoints import save_rosellm
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(300)]

CONFIG = """
[[run]]
name = "gpt"
dir = "{folder}"
settle_s = 0.5
scan_s = 2
[[eval]]
data = "/srv/training/val.npy"
seq_len = 16
[launch]
device = "cpu"
nproc = {nproc}
threads = 1
"""


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Path:
    """A folder that is written outside and seen inside, read-only: /srv/training."""
    folder = tmp_path_factory.mktemp("training")
    folder.chmod(0o755)
    (folder / "out").mkdir(mode=0o755)
    np.save(folder / "val.npy", np.random.default_rng(0).integers(0, 64, 4000).astype(np.uint16))
    return folder


@pytest.fixture(scope="module")
def booted(training, tmp_path_factory) -> Iterator[Container]:
    assert not needed_programs(), f"missing: {needed_programs()}; tests/engines/install.sh systemd"
    container = Container(tmp_path_factory.mktemp("container"), {training: "/srv/training"})
    try:
        for unit in ("ckptwatch.service", "ckptwatch@.service"):
            text = (REPO / "deploy" / unit).read_text().replace("WatchdogSec=2min", "WatchdogSec=6")
            container.write(f"/etc/systemd/system/{unit}", text)
        container.write("/etc/ckptwatch/ckptwatch.toml", CONFIG.format(folder="/srv/training/out", nproc=2))
        container.run("chmod", "-R", "a+rX", "/etc/ckptwatch")
        container.systemctl("daemon-reload")
        yield container
    finally:
        container.close()


def rows(container: Container, state: str = "ckptwatch") -> list[tuple[int, float]]:
    """(step, loss) of every result, read beside the running daemon."""
    for folder in (f"var/lib/private/{state}", f"var/lib/{state}"):
        file = container.root / folder / "ckptwatch.db"
        if file.exists():
            connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)
            try:
                return connection.execute("SELECT step, loss FROM results ORDER BY step").fetchall()
            finally:
                connection.close()
    return []


def save(training: Path, step: int, folder: str = "out") -> None:
    """As a careful trainer: under another name first."""
    path = training / folder / f"step_{step}.pt"
    save_rosellm(path.with_suffix(".tmp"), step=step, seed=step)
    path.with_suffix(".tmp").chmod(0o644)
    os.replace(path.with_suffix(".tmp"), path)


def wait_for_steps(container: Container, steps: list[int], state: str = "ckptwatch", unit: str = "ckptwatch") -> None:
    try:
        wait_until(lambda: [step for step, _ in rows(container, state)] == steps, 90, f"rows for {steps}")
    except AssertionError as error:
        raise AssertionError(f"{error}\nrows: {rows(container, state)}\n{container.journal(unit)[-4000:]}") from None


def test_the_unit_starts_is_ready_after_its_first_scan_and_rows_appear_for_files_written_outside(booted, training):
    save(training, 100)
    started = booted.systemctl("start", "ckptwatch")
    assert started.returncode == 0, started.stderr + booted.journal("ckptwatch")
    assert booted.show("ckptwatch", "ActiveState") == "active"
    assert "queued" in wait_until(lambda: booted.show("ckptwatch", "StatusText"), why="a status line")
    save(training, 200)
    wait_for_steps(booted, [100, 200])
    wait_until(lambda: "2 done" in booted.show("ckptwatch", "StatusText"), why="the status line counts both")


def test_the_daemon_runs_as_a_user_of_its_own_and_without_privileges(booted):
    pid = booted.show("ckptwatch", "MainPID")
    status = booted.run("cat", f"/proc/{pid}/status").stdout
    assert "\nUid:\t0\t" not in status
    assert "\nNoNewPrivs:\t1" in status
    assert "\nCapEff:\t0000000000000000" in status
    assert booted.run("nsenter", "-t", pid, "-m", "--", "touch", "/srv/training/out/x").returncode != 0


def test_reload_reads_the_settings_again_and_keeps_the_process(booted, training):
    before = booted.show("ckptwatch", "MainPID")
    booted.write("/etc/ckptwatch/ckptwatch.toml", CONFIG.format(folder="/srv/training/out", nproc=1))
    assert booted.systemctl("reload", "ckptwatch").returncode == 0
    wait_until(lambda: "settings reloaded" in booted.journal("ckptwatch"), why="the journal says so")
    wait_until(lambda: booted.show("ckptwatch", "ActiveState") == "active", why="ready again")
    assert booted.show("ckptwatch", "MainPID") == before
    save(training, 300)
    wait_for_steps(booted, [100, 200, 300])


def test_a_main_loop_that_is_stuck_is_restarted_by_the_watchdog_and_nothing_is_lost(booted, training):
    before = booted.show("ckptwatch", "MainPID")
    booted.run("kill", "-STOP", before)
    save(training, 400)
    wait_until(lambda: int(booted.show("ckptwatch", "NRestarts")) == 1, 60, "one restart")
    wait_for_steps(booted, [100, 200, 300, 400])
    assert booted.show("ckptwatch", "MainPID") != before
    assert "Watchdog timeout" in booted.run("journalctl", "--no-pager", "-u", "ckptwatch").stdout


def test_jobs_in_flight_end_with_the_unit_and_no_process_is_left(booted, training):
    save(training, 500)
    seen = wait_until(lambda: [p for p in booted.processes_of("ckptwatch") if _is_torchrun(booted, p)], 60, "a launch")
    assert seen
    assert booted.systemctl("stop", "ckptwatch").returncode == 0
    assert booted.show("ckptwatch", "ActiveState") == "inactive"
    assert booted.show("ckptwatch", "Result") == "success"
    assert booted.processes_of("ckptwatch") == []
    assert not booted.run("pgrep", "-f", "evalcore.worker").stdout
    booted.systemctl("start", "ckptwatch")
    wait_for_steps(booted, [100, 200, 300, 400, 500])
    booted.systemctl("stop", "ckptwatch")


def test_an_instance_runs_as_the_training_user_who_alone_can_read_the_folder(booted, training):
    booted.run("useradd", "--system", "--uid", "4711", "ada")
    private = training / "private"
    private.mkdir(mode=0o700)
    save(training, 7, "private")
    for path in (private, *private.iterdir()):
        os.chown(path, 4711, 4711)
    booted.write("/etc/ckptwatch/ada.toml", CONFIG.format(folder="/srv/training/private", nproc=1)).chmod(0o644)
    started = booted.systemctl("start", "ckptwatch@ada")
    assert started.returncode == 0, booted.journal("ckptwatch@ada")
    wait_for_steps(booted, [7], "ckptwatch-ada", "ckptwatch@ada")
    pid = booted.show("ckptwatch@ada", "MainPID")
    assert booted.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() == "ada"
    booted.systemctl("stop", "ckptwatch@ada")
    assert booted.processes_of("ckptwatch@ada") == []


def test_settings_that_are_wrong_fail_the_unit_once_and_are_not_tried_for_ever(booted):
    booted.write("/etc/ckptwatch/broken.toml", "[[run]]\ndri = 1\n").chmod(0o644)
    booted.run("useradd", "--system", "broken")
    booted.systemctl("start", "ckptwatch@broken")
    wait_until(lambda: booted.show("ckptwatch@broken", "ActiveState") == "failed", why="the unit failed")
    assert booted.show("ckptwatch@broken", "ExecMainStatus") == "3"
    assert booted.show("ckptwatch@broken", "NRestarts") == "0"
    assert "did you mean `dir`" in booted.journal("ckptwatch@broken")


def _is_torchrun(container: Container, pid: int) -> bool:
    return b"evalcore.worker" in container.run("cat", f"/proc/{pid}/cmdline").stdout.encode()
