"""The GPUs of this machine as the NVIDIA driver reports them: memory, and the processes that use them.

Asks NVML (nvidia-ml-py) where it is installed, else `nvidia-smi`, each as a process of its own that gets 5 seconds.
Opens no CUDA context. Decides nothing: devices.py does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

QUERY_TIMEOUT_S = 5.0
#: What the driver itself keeps of an unused GPU stays below this; a process with a CUDA context and a model does not.
UNUSED_MAX_BYTES = 1 << 30
NVML = Path(__file__).with_name("nvml.py")
#: Any of them shows that an NVIDIA driver is loaded (the last one: on WSL).
DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
CUT = "Enabled"  # mig.mode.current of a GPU whose slices alone can compute


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG slice, which has no index. processes: pids that compute on it, including this daemon's jobs;
    hidden in some containers."""

    index: str
    uuid: str
    free_bytes: int
    total_bytes: int
    processes: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Its name in CUDA_VISIBLE_DEVICES."""
        return self.uuid or self.index

    @property
    def is_used(self) -> bool:
        return bool(self.processes) or self.total_bytes - self.free_bytes > UNUSED_MAX_BYTES


@dataclass(frozen=True)
class DriverReport:
    """left_out: GPUs of which nothing can be known, each with its reason. problem: why there is no answer at all."""

    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    problem: str = ""


class NoAnswer(Exception):
    """The program did not end in time."""


def ask_driver() -> DriverReport:
    """What the driver reports now; an empty report on a machine without one."""
    has_driver = any(os.path.exists(name) for name in DRIVER_FILES)
    if not has_driver and shutil.which("nvidia-smi") is None:
        return DriverReport()
    try:
        answer = _output([sys.executable, "-P", os.fspath(NVML)])
        report = _parse_nvml(answer) if answer else _ask_nvidia_smi()
    except NoAnswer as error:
        return DriverReport(problem=f"the NVIDIA driver does not answer: {error}; see `nvidia-smi` and `dmesg`")
    if report is None and has_driver:
        what = "an NVIDIA driver is loaded, but neither nvidia-ml-py nor nvidia-smi can ask it"
        return DriverReport(problem=f'{what}; install nvidia-ml-py (the extra `gpu`), or set launch.device = "cpu"')
    return report or DriverReport()


def parse_gpus(answer: str) -> DriverReport:
    """`nvidia-smi --query-gpu=index,uuid,memory.free,memory.total[,mig.mode.current] --format=csv,noheader,nounits`."""
    gpus, left_out = [], []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) not in (4, 5) or not fields[0].isdigit():
            continue
        index, uuid, free, total, cut = (*fields, "")[:5]
        if cut == CUT:
            why = "it is cut into MIG slices, of which only nvidia-ml-py knows: install the extra `gpu`"
            left_out.append(f"GPU {index}: {why}")
        elif free.isdigit() and total.isdigit():
            gpus.append(Gpu(index, uuid, int(free) << 20, int(total) << 20))
        else:
            left_out.append(f"GPU {index}: the driver does not tell its memory ({free})")
    return DriverReport(tuple(gpus), tuple(left_out))


def parse_processes(answer: str) -> dict[str, tuple[int, ...]]:
    """`nvidia-smi --query-compute-apps=gpu_uuid,pid --format=csv,noheader`: UUID -> pids."""
    pids: dict[str, tuple[int, ...]] = {}
    for line in answer.splitlines():
        uuid, _, pid = (part.strip() for part in line.partition(","))
        if uuid.startswith("GPU-") and pid.isdigit():
            pids[uuid] = (*pids.get(uuid, ()), int(pid))
    return pids


def _parse_nvml(answer: str) -> DriverReport | None:
    try:
        facts = json.loads(answer)
        gpus = [Gpu(**{**gpu, "processes": tuple(gpu["processes"])}) for gpu in facts["gpus"]]
    except (ValueError, TypeError, KeyError):
        return None
    return DriverReport(tuple(gpus), tuple(facts.get("left_out", ())))


def _ask_nvidia_smi() -> DriverReport | None:
    form = "--format=csv,noheader"
    query = "--query-gpu=index,uuid,memory.free,memory.total"
    for fields in (f"{query},mig.mode.current", query):  # a driver before 450 does not know the mode
        report = parse_gpus(_output(["nvidia-smi", fields, f"{form},nounits"]))
        if report.gpus or report.left_out:
            break
    if not report.gpus:
        return report if report.left_out else None
    pids = parse_processes(_output(["nvidia-smi", "--query-compute-apps=gpu_uuid,pid", form]))
    return replace(report, gpus=tuple(replace(gpu, processes=pids.get(gpu.uuid, ())) for gpu in report.gpus))


def _output(command: list[str]) -> str:
    """What the program prints, whatever its exit status: with one GPU lost nvidia-smi fails and shows the others.

    Empty where it is missing. Raises NoAnswer; a process that cannot even be killed is left behind.
    """
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    try:
        answer, _ = process.communicate(timeout=QUERY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            pass  # it waits in the kernel for the driver
        name = "NVML" if command[0] == sys.executable else command[0]
        raise NoAnswer(f"{name} gave no answer within {QUERY_TIMEOUT_S:g} s") from None
    return answer.decode(errors="replace")
