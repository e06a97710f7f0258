"""Which device a launch may use now: never a GPU whose free memory is below the reserve, never past a device list.

Asks NVML (nvidia-ml-py) where it is installed, else `nvidia-smi`, at most 5 seconds; opens no CUDA context.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver tells it. processes: pids that use it, ours among them."""

    index: str
    uuid: str
    free_bytes: int
    total_bytes: int
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What to launch on; `wait_for` says why nothing can be launched now."""

    device: str
    devices: tuple[str, ...] = ()
    wait_for: str | None = None


def choose(
    wanted: str, allowed: tuple[str, ...], nproc: int, reserve_bytes: int, when: str, fallback: str, gpus: list[Gpu]
) -> Choice:
    """Decide from what the driver said. when `free`: only GPUs that nobody uses."""
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return Choice("cpu")
    if not gpus:
        return _otherwise(fallback, "launch.device is cuda, and the driver shows no GPU")
    usable = [gpu for gpu in gpus if not allowed or gpu.index in allowed or gpu.uuid in allowed]
    if not usable:
        return _otherwise(fallback, f"none of the GPUs {', '.join(allowed)} is there")
    free = [gpu for gpu in usable if gpu.free_bytes >= reserve_bytes]
    if when == "free":
        free = [gpu for gpu in free if not gpu.processes]
    if len(free) < nproc:
        most = max(gpu.free_bytes for gpu in usable) / 2**30
        need = f"{reserve_bytes / 2**30:.1f} GiB free" + (" and nobody on it" if when == "free" else "")
        return _otherwise(fallback, f"{nproc} GPU(s) with {need} needed; the freest has {most:.1f} GiB")
    free.sort(key=lambda gpu: -gpu.free_bytes)
    return Choice("cuda", tuple(gpu.uuid or gpu.index for gpu in free[:nproc]))


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
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            gpus.append(Gpu(fields[0], fields[1], int(fields[2]) << 20, int(fields[3]) << 20))
    return gpus


def _otherwise(fallback: str, reason: str) -> Choice:
    return Choice("cpu") if fallback == "cpu" else Choice("cuda", wait_for=reason)
