"""The device of one rank and its allocator, under whatever name torch has it: cuda (NVIDIA, ROCm), xpu, mps.

Owns every call into torch's device modules. A figure that a device does not offer is None. Never decides a batch size.
CUDA is what is tested; the others go the same way, untested.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def accelerator_type() -> str | None:
    """The type of this process's accelerator, `cuda` say; None on a machine without one."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else found.type


def is_accelerator(device: torch.device) -> bool:
    return device.type not in ("cpu", "meta")


def pick_device(wanted: str, local_rank: int) -> torch.device:
    """The device of this rank, made current. wanted: auto | cpu | a type such as cuda | one device such as cuda:1.

    Raises RuntimeError for what is no device, and where an accelerator was asked for that torch does not see.
    """
    present = accelerator_type()
    if wanted == "cpu" or (wanted == "auto" and present is None):
        return torch.device("cpu")
    try:
        device = torch.device(str(present) if wanted == "auto" else wanted)
    except RuntimeError:
        raise RuntimeError(f"{wanted!r} is no device; use auto, cpu, or a type or device such as cuda:0") from None
    if device.type != present:
        seen = "no accelerator" if present is None else f"only {present}"
        raise RuntimeError(f"device {wanted!r} was asked for, but torch sees {seen}; use --device {present or 'cpu'}")
    count = torch.accelerator.device_count()
    if device.index is None:
        if local_rank >= count:
            raise RuntimeError(f"rank {local_rank} has no device: torch sees {count} of {present}; use fewer ranks")
        device = torch.device(device.type, local_rank)
    elif device.index >= count:
        raise RuntimeError(f"device {wanted!r} was asked for, but torch sees {count} of {present}, counted from 0")
    torch.accelerator.set_device_index(device.index)
    return device


def allocated_bytes(device: torch.device) -> int | None:
    """Bytes of live tensors."""
    return _figure(device, "memory_allocated")


def peak_allocated_bytes(device: torch.device) -> int | None:
    """Largest `allocated_bytes` since `reset_peak`."""
    return _figure(device, "max_memory_allocated")


def reset_peak(device: torch.device) -> None:
    if reset := getattr(torch.get_device_module(device), "reset_peak_memory_stats", None):
        reset(device)


def free_bytes(device: torch.device) -> int | None:
    """What the device has left, with what torch's allocator keeps of it unused."""
    info = getattr(torch.get_device_module(device), "mem_get_info", None)
    reserved, allocated = _figure(device, "memory_reserved"), allocated_bytes(device)
    if info is None or reserved is None or allocated is None:
        return None
    return int(info(device)[0]) + reserved - allocated


def empty_cache(device: torch.device) -> None:
    """Give back what torch's allocator keeps unused."""
    if empty := getattr(torch.get_device_module(device), "empty_cache", None):
        empty()


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; on an accelerator the copy from pinned memory overlaps with its computing."""
    if not is_accelerator(device):
        return tensor
    if device.type == "mps":  # unified memory: nothing to pin
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Begin the copy to the host; the function returned waits for this copy, and not for work that began later.

    A blocking copy would wait for everything on the device's stream, the next pass included: the device would be idle
    while the host reads and adds.
    """
    device = tensor.device
    stream_of = getattr(torch.get_device_module(device), "current_stream", None) if is_accelerator(device) else None
    if stream_of is None or device.type == "mps":
        return lambda: tensor.to("cpu")
    on_host = tensor.to("cpu", non_blocking=True)  # torch takes pinned memory for it
    copied = stream_of(device).record_event()

    def values() -> torch.Tensor:
        copied.synchronize()
        return on_host

    return values


def _figure(device: torch.device, name: str) -> int | None:
    read = getattr(torch.get_device_module(device), name, None)
    return None if read is None else int(read(device))
