"""The ranks of one evaluation: one process, or several under torchrun.

Owns the process group (gloo on CPU; nccl or its like on an accelerator, and gloo for control).
Never decides what is evaluated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from evalcore.measure.accelerator import accelerator_type, is_accelerator, pick_device
from evalcore.measure.joining import RanksMissing, join_store

#: A collective that waits longer than this fails, so that one hung rank cannot hold the others for ever.
TIMEOUT_S = 3600.0


class ProcessGroupBroken(BaseException):
    """A collective failed: another rank is gone or hangs. No Exception, so that nothing makes an outcome of it."""


class ProcessGroup:
    """rank of world_size, the device of this rank, and the few collectives an evaluation needs."""

    def __init__(self, device: torch.device, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank
        self._control: Any = None
        self._owns_group = False

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: Any = None) -> Any:
        """Rank 0's value on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        with _or_broken():
            dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value on every rank, in order of rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _or_broken():
            dist.all_gather_object(values, value, group=self._control)
        return values

    def sum(self, vector: np.ndarray) -> np.ndarray:
        """Element-wise float64 sum over ranks: one reduction. Exact where all ranks but one hold zero."""
        if self.world_size == 1:
            return vector
        with _or_broken():
            tensor = torch.from_numpy(vector).to(self.device)
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
            return tensor.cpu().numpy()

    def close(self) -> None:
        if self._owns_group and dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def _or_broken() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and nccl raise this type for a closed connection and for a timeout
        raise ProcessGroupBroken(f"lost the other ranks: {error}") from None


def start_process_group(
    device: str = "auto", timeout_s: float = TIMEOUT_S, join_s: float | None = None
) -> ProcessGroup:
    """The group that torchrun's environment describes, or a group of one without it. device: see `pick_device`.

    join_s: how long to wait for the other ranks. Raises RanksMissing, ValueError for variables that are no numbers.
    """
    world_size, rank, local_rank = (
        _number_in_environment(name, default) for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    if rank >= max(world_size, 1):
        raise RanksMissing(f"RANK={rank} is set in the environment, but WORLD_SIZE is {world_size}", world_size)
    if world_size <= 1:
        return ProcessGroup(pick_device(device, 0))
    if "LOCAL_RANK" not in os.environ and device != "cpu" and accelerator_type() is not None:
        local_rank = rank % torch.accelerator.device_count()  # mpirun and srun by hand set no LOCAL_RANK
    group = ProcessGroup(pick_device(device, local_rank), rank, world_size, local_rank)
    _init_group(group, timedelta(seconds=timeout_s), join_s)
    return group


def _number_in_environment(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit():
        raise ValueError(f"{name}={text} in the environment is not a number")
    return int(text)


def current_group(device: torch.device | str | None = None) -> ProcessGroup:
    """The ranks of a process group that is up already: for a trainer that evaluates on all of its ranks at once."""
    if not (dist.is_available() and dist.is_initialized()):
        return ProcessGroup(torch.device(device or "cpu"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device(device or ("cpu" if dist.get_backend() == "gloo" else accelerator_type() or "cpu"))
    if is_accelerator(where) and where.index is None:
        where = torch.device(where.type, torch.accelerator.current_device_index())
    return ProcessGroup(where, dist.get_rank(), dist.get_world_size(), local_rank)


def _init_group(group: ProcessGroup, timeout: timedelta, join_s: float | None) -> None:
    if os.environ.get("LOCAL_WORLD_SIZE") == str(group.world_size) and Path("/sys/class/net/lo").exists():
        # one machine: gloo need not look up the host's name and interface
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = join_store(group.rank, group.world_size, join_s)
    ranks: dict[str, Any] = {"store": store, "rank": group.rank, "world_size": group.world_size, "timeout": timeout}
    if is_accelerator(group.device):
        backend = dist.get_default_backend_for_device(group.device)  # nccl for cuda, xccl for xpu
        dist.init_process_group(backend, device_id=group.device, **ranks)
        group._control = dist.new_group(backend="gloo", timeout=timeout)
    else:
        dist.init_process_group("gloo", **ranks)
    group._owns_group = True
