"""The parts of a launch: what a job may see, which device it gets, its log, its processes; each with the real thing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from watcher.errors import EnvironmentProblem
from watcher.launch import processes
from watcher.launch.datafiles import run_data_command
from watcher.launch.environment import job_environment
from watcher.launch.local import SHIM
from watcher.launch.logs import HEAD_BYTES, TAIL_BYTES, LogPump, log_tail, read_log, tail_paths


def test_a_job_sees_only_what_is_allowed_or_named() -> None:
    outer = {
        "PATH": "/bin",
        "HOME": "/h",
        "CUDA_HOME": "/c",
        "LC_ALL": "C",
        "HF_HOME": "/hf",
        "RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "x",
        "WANDB_API_KEY": "s",
        "AWS_SECRET": "s",
        "LD_PRELOAD": "x",
        "PYTHONPATH": "x",
        "NOTIFY_SOCKET": "x",
        "SLURM_JOB_ID": "1",
        "MY_DATA": "/d",
    }
    seen = job_environment(outer, ("MY_*",), {"CUDA_VISIBLE_DEVICES": "1"})
    assert set(seen) == {"PATH", "HOME", "CUDA_HOME", "LC_ALL", "HF_HOME", "MY_DATA", "CUDA_VISIBLE_DEVICES"}


def pumped(tmp_path: Path, data: bytes) -> Path:
    reading, writing = os.pipe()
    pump = LogPump(reading, tmp_path / "worker.log")
    with open(writing, "wb") as pipe:
        pipe.write(data)
    pump.finish(10)
    return tmp_path / "worker.log"


def test_a_flood_of_output_is_kept_at_both_ends_and_bounded(tmp_path: Path) -> None:
    flood = b"first line\n" + b"x" * (HEAD_BYTES + 5 * TAIL_BYTES) + b"\nlast line\n"
    log = pumped(tmp_path, flood)
    text = read_log(log)
    assert text.startswith("first line") and text.endswith("last line\n") and "was not kept" in text
    kept = sum(path.stat().st_size for path in (log, *tail_paths(log)) if path.exists())
    assert kept <= HEAD_BYTES + TAIL_BYTES + (1 << 16)


def test_a_log_shows_no_control_characters(tmp_path: Path) -> None:
    text = log_tail(pumped(tmp_path, b"\x1b[31mred\x00 \xff\xfe end"))
    assert text == "\\x1b[31mred\\x00 \\xff\\xfe end"


SLEEPER = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"


def test_every_process_of_a_launch_is_found_and_killed_even_a_stopped_one_in_its_own_session() -> None:
    environment = {**os.environ, processes.MARK: "test-launch-1"}
    made = [
        subprocess.Popen([sys.executable, "-c", SLEEPER], env=environment, start_new_session=new, **pipes())
        for new in (False, True)
    ]
    for process in made:
        assert process.stdout and process.stdout.readline() == b"up\n"
    os.kill(made[1].pid, signal.SIGSTOP)
    assert sorted(processes.members("test-launch-1")) == sorted(p.pid for p in made)
    assert len(processes.kill_members("test-launch-1")) == 2
    assert [process.wait(10) for process in made] == [-9, -9]
    assert processes.members("test-launch-1") == []


def pipes() -> dict:
    return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def test_the_shim_becomes_the_command_and_dies_with_whoever_started_it() -> None:
    shim = [sys.executable, "-I", "-S", os.fspath(SHIM)]
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([*{shim!r}, str(os.getpid()), '5', '--', sys.executable, '-c', {SLEEPER!r}],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, open(f'/proc/{child.pid}/stat').read().split()[18], flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], **pipes())
    assert parent.stdout is not None
    child, nice = map(int, parent.stdout.readline().split())
    assert nice >= 5
    pidfd = os.pidfd_open(child)
    parent.kill()
    parent.wait(10)
    assert select.select([pidfd], [], [], 10)[0], "the child outlived its parent"
    os.close(pidfd)


def test_a_reused_pid_is_told_by_its_start_time() -> None:
    mine = processes.start_ticks(os.getpid())
    assert mine is not None and mine == processes.start_ticks(os.getpid())
    assert processes.start_ticks(2**22 - 3) is None


def test_a_data_command_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    """Hashing can take minutes: it must not go on for a caller that was killed."""
    python, pid = tmp_path / "python", tmp_path / "pid"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600\n")
    python.chmod(0o755)
    call = f"list(run_data_command('stats', [], [], {str(python)!r}))"
    code = f"from watcher.launch.datafiles import run_data_command; {call}"
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    wait_until(pid.exists)
    child = os.pidfd_open(int(pid.read_text()))
    parent.kill()
    parent.wait(10)
    assert select.select([child], [], [], 10)[0], "the child outlived its parent"
    os.close(child)


def test_a_data_command_whose_python_is_missing_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be executed"):
        list(run_data_command("stats", [], [], str(tmp_path / "none")))
