"""Launches as Slurm jobs: sbatch submits, squeue gives the states; the launch folder on the shared disk holds the rest.

A job outlives its daemon and is found again by its number, or by its name, which holds the launch: nothing is
submitted twice. Outcome files (read in pipeline/) come before what Slurm reports about a job.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from watcher.domain.job import Cause
from watcher.launch import logs, processes
from watcher.launch.environment import job_environment
from watcher.launch.local import local_rendezvous
from watcher.launch.logs import log_tail
from watcher.launch.protocol import CannotLaunch, Ended, LaunchPlan, Running
from watcher.settings.schema import SlurmSettings

POLL_S = 1.0
COMMAND_TIMEOUT_S = 30.0
REFUSAL_MAX = 2000  # characters of what sbatch printed
LOG_SCRIPT = "logs.py"  # in the launch folder: the node need not have ckptwatch where the daemon has it
#: Slurm's states in which a job may still do something.
ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"}
    | {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
WAITING = frozenset({"PENDING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"})
#: What an end means. TAKEN_AWAY by the cluster is not the job's fault: it is not charged, up to a limit.
CAUSES = {
    "TIMEOUT": Cause.TIMEOUT,
    "DEADLINE": Cause.TIMEOUT,
    "OUT_OF_MEMORY": Cause.OOM,
    "PREEMPTED": Cause.TAKEN_AWAY,
    "NODE_FAIL": Cause.TAKEN_AWAY,
    "BOOT_FAIL": Cause.TAKEN_AWAY,
    "REVOKED": Cause.TAKEN_AWAY,
}


@dataclass
class SlurmLauncher:
    """All jobs of one daemon. At most one squeue per second, for all of them."""

    settings: SlurmSettings
    allowed_env: tuple[str, ...] = ()
    survives_daemon: bool = field(default=True, init=False)
    _states: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)  # job -> (state, reason)
    _names: dict[str, str] = field(default_factory=dict, init=False)  # job name -> job
    _asked_s: float = field(default=-1e9, init=False)
    _answers: int = field(default=0, init=False)
    _missed: dict[str, int] = field(default_factory=dict, init=False)  # job -> the first answer without it
    _stopped: set[str] = field(default_factory=set, init=False)

    def start(self, plan: LaunchPlan) -> Running:
        script = plan.folder.root / "job.sh"
        script.write_bytes(os.fsencode(script_of(plan, self.settings)))
        shutil.copyfile(logs.__file__, plan.folder.root / LOG_SCRIPT)
        given = {processes.MARK: plan.launch, "PYTHONUNBUFFERED": "1", **plan.env}
        env = job_environment(os.environ, (*self.allowed_env, "SLURM_CONF"), given)
        env.pop("CUDA_VISIBLE_DEVICES", None)  # Slurm says which GPUs a job has
        done = _call(["sbatch", *arguments(plan, self.settings), os.fspath(script)], env)
        number = done.stdout.strip().partition(";")[0] if done.returncode == 0 else ""
        if not number.isdigit():
            number = self._number_of(plan.launch) or ""  # it may have been submitted although the answer was lost
        if not number:
            words = (done.stderr or done.stdout).strip()[-REFUSAL_MAX:] or f"status {done.returncode}"
            raise CannotLaunch(f"sbatch: {words}")
        self._asked_s = -1e9  # the last answer is older than the job
        return Running(plan, external_id=number, waiting=True)

    def poll(self, running: Running) -> Ended | None:
        """None while Slurm holds the job, or cannot be asked."""
        if not self._refresh():
            return None
        if running.external_id is None:
            running.external_id = self._number_of(running.plan.launch)
        job = running.external_id or ""
        state, reason = self._states.get(job, ("", ""))
        running.waiting = state in WAITING
        status = _ended_status(running.plan)
        if state in ALIVE and status != 0:
            return None
        if not state and status is None and self._seen_again(job):
            return None
        self._missed.pop(job, None)
        tail = log_tail(running.plan.folder.log)
        if status == 0:
            return Ended(0, f"Slurm job {job} ended with status 0", tail)
        if not state:
            cause = Cause.TAKEN_AWAY if status is None else Cause.ENDED
            what = "Slurm no longer lists it" if status is None else f"it ended with status {status}"
            return Ended(status, f"Slurm job {job}: {what}", tail, cause)
        words = f"Slurm job {job}: {state}" + (f" ({reason})" if reason not in ("", "None", state) else "")
        return Ended(status, words, tail, CAUSES.get(state, Cause.ENDED))

    def stop(self, running: Running, *, at_once: bool = False) -> None:
        plan, job = running.plan, running.external_id
        first = plan.launch not in self._stopped
        self._stopped.add(plan.launch)
        if first:
            try:
                plan.folder.cancel.touch()
            except OSError:
                pass  # scancel says the same
        if job is not None and (first or at_once):
            _call(["scancel", *(["--signal=KILL", "--full"] if at_once else []), job])
            self._asked_s = -1e9

    def find(self, plan: LaunchPlan, pid: int | None, pid_start: int | None, external_id: str | None) -> Running | None:
        """The job of an earlier daemon, whatever state it is in, or None where Slurm knows of none."""
        if not self._refresh(force=True):
            return Running(plan, external_id=external_id)  # Slurm does not answer: `poll` asks again
        number = external_id or self._number_of(plan.launch)
        return Running(plan, external_id=number) if number in self._states else None

    def _refresh(self, *, force: bool = False) -> bool:
        """List all jobs of this user, at most once a second; False where Slurm does not answer."""
        if not force and time.monotonic() - self._asked_s < POLL_S:
            return True
        done = _call(["squeue", "--me", "--noheader", "--states=all", "--format=%A|%T|%r|%j"])
        if done.returncode != 0:
            return False
        self._asked_s = time.monotonic()
        self._answers += 1
        lines = [line.strip().split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 3]
        self._states = {job: (state, reason) for job, state, reason, _ in lines}
        self._names = {name: job for job, _, _, name in lines}
        return True

    def _number_of(self, launch: str) -> str | None:
        return self._names.get(name_of(launch)) if self._refresh(force=True) else None

    def _seen_again(self, job: str) -> bool:
        """May it still appear? A job just submitted need not be listed: it is gone after three answers without it."""
        return self._answers - self._missed.setdefault(job, self._answers) < 2


def name_of(launch: str) -> str:
    return f"ckptwatch-{launch}"


def arguments(plan: LaunchPlan, slurm: SlurmSettings) -> list[str]:
    """sbatch's arguments. Never requeued by Slurm: the daemon decides what is tried again."""
    asked = {
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "time": slurm.time,
        "gpus-per-node": slurm.gpus_per_node,
    }
    return [
        *("--parsable", "--no-requeue", f"--job-name={name_of(plan.launch)}", f"--chdir={plan.folder.root}"),
        *(f"--output={_no_pattern(plan.folder.log)}", "--open-mode=append"),
        *(f"--nodes={slurm.nodes}", "--ntasks-per-node=1"),
        f"--cpus-per-task={plan.nproc * (plan.threads or 1)}",
        *(f"--{name}={value}" for name, value in asked.items() if value is not None),
        *slurm.extra,
    ]


def _no_pattern(path: Path) -> str:
    """The path as --output takes it literally: `%j` and the like are replaced there, and so are backslashes."""
    text = os.fspath(path)
    if "\\" in text:
        raise CannotLaunch(f"Slurm cannot write a log below a folder with a backslash in its name: {text}")
    return text.replace("%", "%%")


def script_of(plan: LaunchPlan, slurm: SlurmSettings) -> str:
    """The batch script: one torchrun on this node, or one on each that meet by c10d rendezvous on the first."""
    python = shlex.quote(os.fspath(plan.python or sys.executable))
    torchrun = f"nice -n {plan.nice} {python} -m torch.distributed.run --nproc-per-node={plan.nproc} --max-restarts=0"
    if slurm.nodes > 1:
        meet = f'--nnodes={slurm.nodes} --rdzv-backend=c10d --rdzv-id={plan.launch} --rdzv-endpoint="$first:$port"'
        torchrun = f"srun --kill-on-bad-exit=1 {torchrun} {meet}"
    else:
        torchrun += f" {' '.join(local_rendezvous(plan))}"
    no_gpu = 'export CUDA_VISIBLE_DEVICES=""\n' if plan.device == "cpu" else ""
    setup = "".join(f"{line}\n" for line in slurm.setup)
    log = shlex.quote(os.fspath(plan.folder.log))
    return f"""#!/bin/bash
# Written by ckptwatch for launch {plan.launch}.
folder={shlex.quote(os.fspath(plan.folder.root))}
status=1
trap 'echo $status > "$folder/.ended.tmp"; mv "$folder/.ended.tmp" "$folder/ended"; rm -rf "$folder/tmp"' EXIT
export OMP_NUM_THREADS={plan.threads or 1}
export TMPDIR="$folder/tmp"  # on every node; torchrun leaves folders in it
mkdir -p "$TMPDIR"
{no_gpu}{setup}first=$(hostname)  # a batch script runs on the first of its nodes
port=$((20000 + SLURM_JOB_ID % 20000))
{python} -I -S "$folder/{LOG_SCRIPT}" {log} {torchrun} -m evalcore.worker "$folder"
status=$?
exit $status
"""


def _ended_status(plan: LaunchPlan) -> int | None:
    """The status that the batch script left; None where it did not come to its end."""
    try:
        status = (plan.folder.root / "ended").read_text(errors="replace")
    except OSError:
        return None
    return int(status) if re.fullmatch(r"\d{1,3}\s*", status) else None


def _call(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs; one that is missing or does not answer is a status, not an exception."""
    where = Path("/")
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_TIMEOUT_S, env=env, cwd=where
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error}")
