"""A real Slurm on this machine: munged, slurmctld and slurmd in folders of their own, ended with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.waiting import wait_until

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
CONF = """
ClusterName=tests
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={place}/munge.socket
SlurmctldPort={port}
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=2
MinJobAge=300
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SlurmctldPidFile={place}/ctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/ctld.log
SlurmdLogFile={place}/slurmd-%n.log
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
NodeName=n1 NodeHostname=localhost Port={port_1} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname=localhost Port={port_2} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=first Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """Two nodes of two CPUs on this one machine; partition `first` pre-empts the jobs of `main`."""

    #: May a job take no more memory than it asked for? Slurm 22.05 needs the first version of control groups for that.
    limits_memory = os.access(MEMORY_GROUPS / "memory.limit_in_bytes", os.W_OK)

    def __init__(self) -> None:
        for name in ("munged", "slurmctld", "slurmd", "sbatch"):
            assert shutil.which(name), f"{name} is not installed: tests/engines/install.sh slurm"
        self.place = Path(tempfile.mkdtemp(prefix="ckptwatch-slurm-"))
        (self.place / "state").mkdir()
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.conf = self.place / "slurm.conf"
        ports = 20_000 + os.getpid() % 10_000
        task = "task/cgroup" if self.limits_memory else "task/none"
        self.conf.write_text(CONF.format(place=self.place, port=ports, port_1=ports + 1, port_2=ports + 2, task=task))
        (self.place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainRAMSpace=yes\n")
        self.env = {**os.environ, "SLURM_CONF": str(self.conf)}
        self._started: list[subprocess.Popen] = []
        self._spawn(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.place}/munge.socket",
            f"--pid-file={self.place}/munged.pid", f"--log-file={self.place}/munged.log",
            f"--seed-file={self.place}/munge.seed",
        )  # fmt: skip
        wait_until(lambda: (self.place / "munge.socket").exists(), why="munged's socket")
        self.start_controller("-i")
        for node in ("n1", "n2"):
            self._spawn("slurmd", "-D", "-N", node)
        wait_until(lambda: self.call("sinfo", "-h", "-p", "main", "-o", "%D %T").strip() == "2 idle", 60, "idle nodes")

    def start_controller(self, *more: str) -> None:
        self._controller = self._spawn("slurmctld", "-D", *more)
        wait_until(lambda: "UP" in self.call("scontrol", "ping"), 60, "slurmctld answers")

    def stop_controller(self) -> None:
        self._controller.terminate()
        self._controller.wait(20)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}"

    def jobs(self, *more: str) -> list[tuple[str, str, str]]:
        """(number, state, name) of every job that Slurm still knows."""
        lines = self.call("squeue", "-h", "--states=all", "--format=%A|%T|%j", *more).splitlines()
        return [tuple(line.split("|")) for line in lines if line.count("|") == 2]  # type: ignore[misc]

    def close(self) -> None:
        self.call("scancel", "--user=root")
        wait_until(lambda: not self.call("squeue", "-h").strip(), 20, "no job is left")
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        for node in MEMORY_GROUPS.glob("slurm_n[12]"):
            for group in sorted((path for path in node.rglob("*") if path.is_dir()), reverse=True):
                group.rmdir()
            node.rmdir()
        shutil.rmtree(self.place, ignore_errors=True)

    def _spawn(self, *command: str) -> subprocess.Popen:
        log = open(self.place / f"{command[0]}.out", "ab")
        environment = getattr(self, "env", None)
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self._started.append(process)
        return process
