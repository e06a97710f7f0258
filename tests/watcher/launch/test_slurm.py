"""The batch script and sbatch arguments, run for real in folders whose names need quoting (Slurm itself: engines)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalcore.launch_folder import LaunchFolder
from watcher.launch.protocol import CannotLaunch, LaunchPlan
from watcher.launch.slurm import SlurmLauncher, arguments, script_of
from watcher.settings.schema import SlurmSettings

NAMES = ["plain", "my runs", 'it\'s "here"', "$HOME `id` ; touch pwned", "a%j", "two\nlines", "-rf *", "r\udcff"]


def plan_in(tmp_path: Path, name: str, **more) -> LaunchPlan:
    """A launch below a folder of that name, whose python is a script that prints its arguments and TMPDIR."""
    root = tmp_path / name / "state"
    folder = LaunchFolder(root / "launch-1")
    root.mkdir(parents=True)
    folder.create()
    python = root / "my python"
    python.write_text(
        f'#!/bin/bash\nif [ "$1" = -I ]; then exec {sys.executable} "$@"; fi\n'
        'printf "%s\\n" "$@"; mkdir "$TMPDIR/left-behind" && echo "TMPDIR=$TMPDIR"; exit 3\n'
    )
    python.chmod(0o755)
    return LaunchPlan("launch-1", folder, "cpu", 2, python=python, nice=0, **more)


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_script_runs_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    plan = plan_in(tmp_path, name)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text('#!/bin/bash\nprintf "%s\\0" "$@" > "$HOME/arguments"; echo 4711\n')
    sbatch.chmod(0o755)
    path, home = os.environ["PATH"], os.environ.get("HOME", "/")
    os.environ.update(PATH=f"{tmp_path}/bin:{path}", HOME=str(tmp_path))
    try:
        running = SlurmLauncher(SlurmSettings()).start(plan)
    finally:
        os.environ.update(PATH=path, HOME=home)
    assert running.external_id == "4711"
    given = (tmp_path / "arguments").read_bytes().split(b"\0")[:-1]
    root = os.fspath(plan.folder.root)
    assert given[-1] == os.fsencode(f"{root}/job.sh") and os.fsencode(f"--chdir={root}") in given
    assert os.fsencode(f"--output={plan.folder.log}".replace("%", "%%")) in given
    assert subprocess.run(["bash", "-n", f"{root}/job.sh"], capture_output=True, text=True).stderr == ""

    environment = {**os.environ, "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", f"{root}/job.sh"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    log = os.fsdecode(plan.folder.log.read_bytes())
    assert log.startswith("-m\ntorch.distributed.run\n--nproc-per-node=2\n")
    assert log.endswith(f"-m\nevalcore.worker\n{root}\nTMPDIR={root}/tmp\n")
    assert (plan.folder.root / "ended").read_text() == "3\n"
    assert not (plan.folder.root / "tmp").exists(), "what torchrun left behind stays"
    assert not list(tmp_path.rglob("pwned"))


def test_several_nodes_meet_at_a_quoted_address(tmp_path: Path) -> None:
    script = script_of(plan_in(tmp_path, "my runs"), SlurmSettings(nodes=2))
    assert '--rdzv-endpoint="$first:$port"' in script and "srun --kill-on-bad-exit=1 nice" in script
    assert subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True).stderr == ""


def test_a_folder_that_slurm_cannot_write_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotLaunch, match="backslash"):
        arguments(plan_in(tmp_path, "back\\slash"), SlurmSettings())


def test_a_flood_from_sbatch_is_bounded(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in (("sbatch", f"{sys.executable} -c 'print(\"x\" * 9_000_000)' >&2; exit 1"), ("squeue", "true")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    plan = plan_in(tmp_path, "plain")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(CannotLaunch) as caught:
        SlurmLauncher(SlurmSettings()).start(plan)
    assert len(str(caught.value)) < 3000
