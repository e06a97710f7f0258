"""What every way of launching offers: start a request folder, ask how it goes, stop it, find it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evalcore.launch_folder import LaunchFolder
from watcher.domain.job import Cause


@dataclass(frozen=True)
class LaunchPlan:
    """One launch. devices: what CUDA_VISIBLE_DEVICES shall say (empty on CPU). nproc: ranks."""

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
    waiting: bool = False  # for a machine: no progress can be asked of it yet


@dataclass(frozen=True)
class Ended:
    """A launch is over. exit_code is a hint only (torchrun's is always 1); tail: the last words of its log.

    cause: what the launcher knows that outcome files cannot tell: out of time, out of memory, taken away.
    """

    exit_code: int | None
    reason: str = ""
    tail: str = ""
    cause: Cause = Cause.ENDED


class CannotLaunch(Exception):
    """The launch could not even begin: torchrun missing, no memory to fork, sbatch refused. Charges no job."""


class Launcher(Protocol):
    """local: processes die with the daemon. slurm: jobs outlive it and are adopted."""

    survives_daemon: bool

    def start(self, plan: LaunchPlan) -> Running: ...

    def poll(self, running: Running) -> Ended | None: ...

    def stop(self, running: Running, *, at_once: bool = False) -> None:
        """Begin to end it; `poll` goes on until it is gone. Calling it again is harmless."""

    def find(self, plan: LaunchPlan, pid: int | None, pid_start: int | None, external_id: str | None) -> Running | None:
        """A launch of an earlier daemon that still lives, or None."""
