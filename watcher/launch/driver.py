"""The GPUs of this machine as the NVIDIA driver reports them: memory, and the processes that use them.

Asks NVML (nvidia-ml-py) where it is installed, else `nvidia-smi`, at most 5 seconds each; opens no CUDA context.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace

QUERY_TIMEOUT_S = 5.0
#: What the driver itself keeps of an unused GPU stays below this; a process with a CUDA context and a model does not.
UNUSED_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """One GPU. processes: pids that compute on it, including this daemon's jobs; hidden in some containers."""

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


def list_gpus() -> list[Gpu]:
    """The GPUs of this machine; empty where there is no driver, or it does not answer in time."""
    try:
        import pynvml
    except ImportError:
        return _from_nvidia_smi()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_from_nvml(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def parse_gpus(answer: str) -> list[Gpu]:
    """`nvidia-smi --query-gpu=index,uuid,memory.free,memory.total --format=csv,noheader,nounits` (MiB)."""
    gpus = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            gpus.append(Gpu(fields[0], fields[1], int(fields[2]) << 20, int(fields[3]) << 20))
    return gpus


def parse_processes(answer: str) -> dict[str, tuple[int, ...]]:
    """`nvidia-smi --query-compute-apps=gpu_uuid,pid --format=csv,noheader`: UUID -> pids."""
    pids: dict[str, tuple[int, ...]] = {}
    for line in answer.splitlines():
        uuid, _, pid = (part.strip() for part in line.partition(","))
        if uuid.startswith("GPU-") and pid.isdigit():
            pids[uuid] = (*pids.get(uuid, ()), int(pid))
    return pids


def _from_nvml(nvml, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    try:
        users = tuple(process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:
        users = ()
    return Gpu(str(index), uuid if isinstance(uuid, str) else uuid.decode(), memory.free, memory.total, users)


def _from_nvidia_smi() -> list[Gpu]:
    gpus = parse_gpus(_nvidia_smi("--query-gpu=index,uuid,memory.free,memory.total", "csv,noheader,nounits"))
    if not gpus:
        return []
    pids = parse_processes(_nvidia_smi("--query-compute-apps=gpu_uuid,pid", "csv,noheader"))
    return [replace(gpu, processes=pids.get(gpu.uuid, ())) for gpu in gpus]


def _nvidia_smi(query: str, form: str) -> str:
    """Its answer; empty where it is missing, fails or does not end in time."""
    try:
        done = subprocess.run(
            ["nvidia-smi", query, f"--format={form}"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=QUERY_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
