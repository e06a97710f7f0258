"""The interface of every launcher: start a launch folder, poll it, stop it, find it after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evalcore.launch_folder import LaunchFolder
from watcher.domain.job import Cause


@dataclass(frozen=True)
class LaunchPlan:
    """One launch. devices: the value of CUDA_VISIBLE_DEVICES (empty on CPU). nproc: ranks."""

    launch: str
    folder: LaunchFolder
    device: str
    nproc: int
    devices: tuple[str, ...] = ()
    threads: int | None = None
    nice: int = 10
    env: dict[str, str] = field(default_factory=dict)
    python: Path | None = None


@dataclass
class Running:
    """A launch that was started. pid, pid_start, external_id go to the database, so that a restart finds it."""

    plan: LaunchPlan
    pid: int | None = None
    pid_start: int | None = None
    external_id: str | None = None
    waiting: bool = False  # queued by Slurm: no progress to expect yet


@dataclass(frozen=True)
class Ended:
    """A launch is over. exit_code is a hint only (torchrun's is always 1); tail: the end of its log.

    cause: what only the launcher knows: out of time, out of memory, taken away by the cluster.
    """

    exit_code: int | None
    reason: str = ""
    tail: str = ""
    cause: Cause = Cause.ENDED


class CannotLaunch(Exception):
    """The launch could not begin: torchrun missing, no memory to fork, sbatch refused. No job is charged."""


class Launcher(Protocol):
    """local: processes die with the daemon. slurm: jobs outlive it and are adopted."""

    survives_daemon: bool

    def start(self, plan: LaunchPlan) -> Running: ...

    def poll(self, running: Running) -> Ended | None: ...

    def stop(self, running: Running, *, at_once: bool = False) -> None:
        """Begin to end it; `poll` returns None until it is gone. Calling it again is harmless."""

    def find(self, plan: LaunchPlan, pid: int | None, pid_start: int | None, external_id: str | None) -> Running | None:
        """A launch of an earlier daemon that still runs, or None."""
