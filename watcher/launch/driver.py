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
#: Any of them shows that an NVIDIA driver is within reach: a device node, or Windows' library (WSL). /dev/dxg is there
#: with every vendor's GPU, and /proc/driver/nvidia is seen in containers that have been given no GPU.
DRIVER_FILES = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
LOADED = "/proc/driver/nvidia/version"
WSL_FOLDER = "/usr/lib/wsl/lib"  # of its nvidia-smi, which is often not on the PATH
NO_GPUS = "No devices were found"  # a driver is loaded, and no GPU is visible to this process
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
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=WSL_FOLDER)
    has_driver = any(os.path.exists(name) for name in DRIVER_FILES) or (tool is not None and os.path.exists(LOADED))
    if not has_driver and tool is None:
        return DriverReport()
    try:
        report, error_text = _parse_nvml(_output([sys.executable, "-P", os.fspath(NVML)]))
        if report is None and tool is not None:
            report, error_text = _ask_nvidia_smi(tool)
    except NoAnswer as error:
        return DriverReport(problem=f"the NVIDIA driver does not answer: {error}; see `nvidia-smi` and `dmesg`")
    if report is None and has_driver:
        what, remedy = "neither nvidia-ml-py nor nvidia-smi can ask it", "install nvidia-ml-py (the extra `gpu`)"
        if error_text:
            what, remedy = f"it answers: {error_text}", "see `dmesg`"
        problem = f'an NVIDIA driver is loaded, but {what}; {remedy}, or set launch.device = "cpu"'
        return DriverReport(problem=problem)
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


def _parse_nvml(answer: str) -> tuple[DriverReport | None, str]:
    """(report, "") or (None, the error that NVML gave)."""
    try:
        facts = json.loads(answer)
        if "error" in facts:
            return None, _one_line(str(facts["error"]))
        gpus = [Gpu(**{**gpu, "processes": tuple(gpu["processes"])}) for gpu in facts["gpus"]]
    except (ValueError, TypeError, KeyError):
        return None, ""
    return DriverReport(tuple(gpus), tuple(facts.get("left_out", ()))), ""


def _ask_nvidia_smi(tool: str) -> tuple[DriverReport | None, str]:
    """(report, "") or (None, what it printed instead)."""
    form = "--format=csv,noheader"
    query = "--query-gpu=index,uuid,memory.free,memory.total"
    for fields in (f"{query},mig.mode.current", query):  # a driver before 450 does not know the mode
        answer = _output([tool, fields, f"{form},nounits"])
        report = parse_gpus(answer)
        if report.gpus or report.left_out or NO_GPUS in answer:
            break
    if NO_GPUS in answer:
        return DriverReport(), ""
    if not report.gpus:
        return (report, "") if report.left_out else (None, _one_line(answer))
    pids = parse_processes(_output([tool, "--query-compute-apps=gpu_uuid,pid", form]))
    gpus = tuple(replace(gpu, processes=pids.get(gpu.uuid, ())) for gpu in report.gpus)
    return replace(report, gpus=gpus), ""


def _one_line(text: str) -> str:
    """Printable, of one line and bounded length."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:200]


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
        name = "NVML" if command[0] == sys.executable else "nvidia-smi"
        raise NoAnswer(f"{name} gave no answer within {QUERY_TIMEOUT_S:g} s") from None
    return answer.decode(errors="replace")
