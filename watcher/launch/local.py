"""torchrun on this machine: started through the exec shim, killed with the daemon, its log capped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from watcher.launch import processes
from watcher.launch.environment import job_environment
from watcher.launch.logs import LogPump, log_tail
from watcher.launch.protocol import CannotLaunch, Ended, LaunchPlan, Running

SHIM = Path(__file__).with_name("shim.py")
TERM_GRACE_S = 5.0
LOOK_EVERY_S = 2.0


@dataclass
class _Process:
    popen: subprocess.Popen
    pump: LogPump
    stopping_since_s: float | None = None
    swept: int = 0
    known: set[int] = field(default_factory=set)  # its processes, as far as they were seen alive
    seen_s: float = 0.0

    def look(self, launch: str) -> None:
        """Remember its members: once a worker is a zombie, its environment no longer shows the launch."""
        if time.monotonic() - self.seen_s > LOOK_EVERY_S:
            self.seen_s = time.monotonic()
            self.known.update(processes.members(launch))


@dataclass
class LocalLauncher:
    """Use from the main thread only: the death signal is tied to the thread that started the child."""

    allowed_env: tuple[str, ...] = ()
    survives_daemon: bool = field(default=False, init=False)
    _live: dict[str, _Process] = field(default_factory=dict, init=False)

    def start(self, plan: LaunchPlan) -> Running:
        python = os.fspath(plan.python or sys.executable)
        given = {processes.MARK: plan.launch, "PYTHONUNBUFFERED": "1", **plan.env}
        if plan.threads is not None:
            given["OMP_NUM_THREADS"] = str(plan.threads)
        if plan.device == "cpu":
            given["CUDA_VISIBLE_DEVICES"] = ""
        elif plan.devices:
            given["CUDA_VISIBLE_DEVICES"] = ",".join(plan.devices)
            given["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # else CUDA counts indexes by speed
        reading, writing = os.pipe()
        try:
            if not os.access(python, os.X_OK):
                raise CannotLaunch(f"{python} cannot be executed (launch.python)")
            popen = subprocess.Popen(
                shimmed([python, *torchrun_arguments(plan)], plan.nice),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=plan.folder.root,
                env=job_environment(os.environ, self.allowed_env, given),
                close_fds=True,
            )
        except (OSError, CannotLaunch) as error:
            os.close(reading)
            raise CannotLaunch(str(error)) from None
        finally:
            os.close(writing)
        self._live[plan.launch] = _Process(popen, LogPump(reading, plan.folder.log))
        return Running(plan, popen.pid, processes.start_ticks(popen.pid))

    def poll(self, running: Running) -> Ended | None:
        """None while any process of the launch runs. What outlives torchrun or a stop's grace is killed."""
        launch = running.plan.launch
        process = self._live.get(launch)
        if process is None:
            return Ended(None, "no such process")
        code = process.popen.poll()
        overdue = process.stopping_since_s is not None and time.monotonic() - process.stopping_since_s > TERM_GRACE_S
        if code is None and not overdue:
            process.look(launch)
            return None
        if code is None or processes.members(launch):
            process.known.update(processes.kill_members(launch))
            process.swept += 1
            if process.popen.poll() is None or (processes.members(launch) and process.swept < 100):
                return None
        process.known.discard(process.popen.pid)
        processes.reap(process.known)
        if process.known and process.swept < 100:
            process.swept += 1
            return None  # not dead yet: only the subreaper can wait for them
        process.pump.finish(timeout_s=1.0)
        del self._live[launch]
        return Ended(process.popen.returncode, _how(process.popen.returncode), log_tail(running.plan.folder.log))

    def stop(self, running: Running, *, at_once: bool = False) -> None:
        process = self._live.get(running.plan.launch)
        if process is None:
            return
        if at_once:
            process.stopping_since_s = -TERM_GRACE_S
            processes.kill_members(running.plan.launch)
        elif process.stopping_since_s is None:
            process.stopping_since_s = time.monotonic()
            try:
                running.plan.folder.cancel.touch()
            except OSError:
                pass  # a full disk: the signal has the same effect
            process.popen.send_signal(signal.SIGTERM)

    def find(self, plan: LaunchPlan, pid: int | None, pid_start: int | None, external_id: str | None) -> Running | None:
        """Local launches die with their daemon; one that is left over is killed here, never adopted."""
        deadline_s = time.monotonic() + 5.0
        while processes.kill_members(plan.launch) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return None


def shimmed(command: list[str], nice: int = 0) -> list[str]:
    """The command in a session of its own, killed when the thread ends that starts it."""
    return [sys.executable, "-I", "-S", os.fspath(SHIM), str(os.getpid()), str(nice), "--", *command]


def torchrun_arguments(plan: LaunchPlan) -> list[str]:
    """torchrun on a free port of this machine; no restarts."""
    return [
        *("-m", "evalcore.worker.torchrun", *local_rendezvous(plan)),
        *(f"--nproc-per-node={plan.nproc}", "--max-restarts=0"),
        *("-m", "evalcore.worker", os.fspath(plan.folder.root)),
    ]


def local_rendezvous(plan: LaunchPlan) -> tuple[str, ...]:
    """torchrun arguments for a rendezvous on 127.0.0.1.

    Not `--standalone`: it uses the host's name, which may not resolve in a container; the ranks then wait for minutes.
    """
    return (
        *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        f"--rdzv-id={plan.launch}",
    )


def _how(code: int) -> str:
    if code < 0:
        try:
            return f"torchrun was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"torchrun was ended by signal {-code}"
    return f"torchrun exited with status {code}"
