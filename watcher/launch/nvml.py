"""Prints what NVML knows of the GPUs as JSON: run as a process of its own, for a call into a hung driver never returns.

{"gpus": [{index, uuid, free_bytes, total_bytes, processes}], "left_out": [reason]}; a GPU that is cut into MIG slices
is given as its slices. Exits with 3 where nvidia-ml-py is not installed; with 4 and {"error": reason} where it finds no
driver that it can ask.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    try:
        import pynvml
    except ImportError:
        return 3
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:  # no library, or one of another version than the driver
        sys.stdout.write(json.dumps({"error": f"NVML: {error}"}))
        return 4
    gpus: list[dict[str, Any]] = []
    left_out = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.extend(_of_gpu(pynvml, index))
        except pynvml.NVMLError as error:  # lost, or without permission: the others are as good as ever
            left_out.append(f"GPU {index}: {error}")
    sys.stdout.write(json.dumps({"gpus": gpus, "left_out": left_out}))
    return 0


def _of_gpu(nvml: Any, index: int) -> list[dict[str, Any]]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        is_cut = nvml.nvmlDeviceGetMigMode(handle)[0] == 1
    except nvml.NVMLError:  # a GPU that cannot be cut
        is_cut = False
    return _slices(nvml, handle) if is_cut else [_facts(nvml, handle, str(index))]


def _slices(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    slices = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:  # no slice of this number
            continue
        slices.append(_facts(nvml, part, ""))
    return slices


def _facts(nvml: Any, handle: Any, index: str) -> dict[str, Any]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    try:
        processes = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError:
        processes = []
    return {
        "index": index,
        "uuid": uuid if isinstance(uuid, str) else uuid.decode(),
        "free_bytes": int(memory.free),
        "total_bytes": int(memory.total),
        "processes": processes,
    }


if __name__ == "__main__":
    sys.exit(main())
