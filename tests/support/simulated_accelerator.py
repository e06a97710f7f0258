"""An accelerator without hardware: tensors that say `sim:0`, computed on the CPU, strict where a GPU is strict.

A tensor on the wrong device raises, as on CUDA; synchronisations are counted; an asynchronous copy to the host holds
garbage until somebody waits for the device; memory is counted and bounded. Streams and the speed are not simulated.
Built on torch's python backend for PrivateUse1, so it needs no compiler. Active only inside `simulated()`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.backend_registration import (
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

DEVICES = 2
aten = torch.ops.aten
#: Wait for the device and hand a number or a shape to the host.
SYNCHRONISING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
}
#: May have operands on the host and on the device.
ACROSS = {aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten._pin_memory.default}
#: Autocast computes these in the lower dtype on every accelerator.
LOWERED = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention")


@dataclass
class Simulation:
    """What happened on the device. syncs: by operation; allocated, peak: bytes of live tensors; capacity: bytes."""

    capacity: int = 1 << 40
    allocated: int = 0
    peak: int = 0
    syncs: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    out_of_memory: int = 0
    owners: Counter[int] = field(default_factory=Counter)
    in_flight: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    sources: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def sync(self, operation: str) -> None:
        self.syncs[operation] += 1
        for host, value in self.in_flight:
            host.copy_(value)
        for source, before in self.sources:
            assert torch.equal(source, before), "pinned memory was changed before the device had read it"
        self.in_flight, self.sources = [], []

    def hold(self, storage: Any, tensor: torch.Tensor) -> None:
        key, size = storage._cdata, storage.nbytes()
        if not self.owners[key]:
            if self.allocated + size > self.capacity:
                self.out_of_memory += 1
                raise torch.OutOfMemoryError(f"sim out of memory. Tried to allocate {size} bytes")
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
        self.owners[key] += 1
        weakref.finalize(tensor, self.release, key, size)

    def release(self, key: int, size: int) -> None:
        self.owners[key] -= 1
        if not self.owners[key]:
            del self.owners[key]
            self.allocated -= size


_now: Simulation | None = None


class _Event:
    """A mark in the device's work. To wait for it delivers the copies that were begun before it, and no later ones."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._before = [host for host, _ in simulation.in_flight]

    def synchronize(self) -> None:
        now = self._simulation
        now.syncs["event"] += 1
        for host, value in now.in_flight:
            if any(host is each for each in self._before):
                host.copy_(value)
        now.in_flight = [each for each in now.in_flight if not any(each[0] is host for host in self._before)]


class _Stream:
    def record_event(self) -> _Event:
        return _Event(_simulation())


class _Module:
    """torch.sim"""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return _now is not None

    def device_count(self) -> int:
        return DEVICES if _now is not None else 0

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        pass

    def current_stream(self, device: Any = None) -> _Stream:
        return _Stream()

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: Any = None) -> None:
        _simulation().sync("synchronize")

    def memory_allocated(self, device: Any = None) -> int:
        return _simulation().allocated

    def memory_reserved(self, device: Any = None) -> int:
        return _simulation().allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        return _simulation().peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        _simulation().peak = _simulation().allocated

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        now = _simulation()
        return now.capacity - now.allocated, now.capacity

    def empty_cache(self) -> None:
        pass


class _Hook(_DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return _now is not None


def _simulation() -> Simulation:
    assert _now is not None, "a tensor of the simulated accelerator outlived the simulation"
    return _now


class DeviceTensor(torch.Tensor):
    """A tensor of the device: `host` holds its values."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor, device: torch.device) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            device=device,
        )  # fmt: skip
        made.host = host
        _simulation().hold(host.untyped_storage(), made)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.host}, device={self.device})"


class _Mode(TorchDispatchMode):
    """Sees the operations whose operands are all on the host, so that `torch.empty(device="sim")` is made here."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    operands = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
    on_device = [value for value in operands if isinstance(value, DeviceTensor)]
    wanted = kwargs.get("device")
    target = torch.device(wanted) if wanted is not None else on_device[0].device if on_device else None
    now = _simulation()
    if on_device:
        now.operations += 1
        _demand_one_device(func, operands, on_device)
        if func in SYNCHRONISING:
            now.sync(str(func))
    host_args, host_kwargs = tree_map(_host, args), tree_map(_host, kwargs)
    if wanted is not None and target is not None and target.type != "meta":
        host_kwargs["device"] = "cpu"
    if func is aten._to_copy.default:
        return _copied(now, func, host_args, host_kwargs, target, args[0])
    if func is aten.copy_.default and on_device and not isinstance(args[0], DeviceTensor):
        now.sync("copy_ to the host")
    given = {id(_host(value)): value for value in on_device}
    compute = _gru_cell if func is aten._thnn_fused_gru_cell.default else func
    result = compute(*host_args, **host_kwargs)
    if target is None or target.type in ("cpu", "meta"):
        return result
    where = target if target.index is not None else torch.device(target.type, 0)
    return tree_map(lambda value: given.get(id(value)) if id(value) in given else _device(value, where), result)


def _gru_cell(gates: Any, hidden_gates: Any, state: Any, bias: Any = None, hidden_bias: Any = None) -> Any:
    """The kernel that a GPU has for one step of a GRU and a CPU has not: (new state, workspace)."""
    r, z, n = (gates if bias is None else gates + bias).chunk(3, 1)
    hr, hz, hn = (hidden_gates if hidden_bias is None else hidden_gates + hidden_bias).chunk(3, 1)
    update = torch.sigmoid(z + hz)
    return (1 - update) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + update * state, gates.new_empty(0)


def _copied(now: Simulation, func: Any, args: Any, kwargs: dict[str, Any], target: Any, source: torch.Tensor) -> Any:
    """A copy between devices. To the host and not blocking: garbage until the next synchronisation."""
    later = kwargs.pop("non_blocking", False)
    value = func(*args, **kwargs)
    if target is not None and target.type not in ("cpu", "meta"):
        if not isinstance(source, DeviceTensor):
            if later and getattr(source, "is_pinned_here", False):
                now.sources.append((source, source.clone()))
            else:
                now.sync("copy to the device from memory that is not pinned, or blocking")
        return _device(value, target if target.index is not None else torch.device(target.type, 0))
    if isinstance(source, DeviceTensor) and not later:
        now.sync("copy to the host")
    elif isinstance(source, DeviceTensor):
        now.in_flight.append((value, value.clone()))
        value.fill_(float("nan") if value.is_floating_point() else -(2**7))
    return value


def _demand_one_device(func: Any, operands: list[torch.Tensor], on_device: list[DeviceTensor]) -> None:
    places = {value.device for value in on_device}
    strangers = [value for value in operands if not isinstance(value, DeviceTensor) and value.dim() > 0]
    if len(places) > 1 or (strangers and func not in ACROSS):
        found = ", ".join(sorted({str(value.device) for value in (*on_device, *strangers)}))
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} ({func})")


def _host(value: Any) -> Any:
    return value.host if isinstance(value, DeviceTensor) else value


def _device(value: Any, where: torch.device) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)
    return DeviceTensor(value, where) if plain else value


def _lowered(name: str) -> Any:
    without_autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    operation = getattr(aten, name)

    def lowered(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype("sim")
        with torch._C._ExcludeDispatchKeyGuard(without_autocast):
            cast = [v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in args]
            return operation(*cast, **kwargs)

    return lowered


_setup_privateuseone_for_python_backend("sim", _Module(), _Hook())
_rest = torch.library.Library("_", "IMPL")
_rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_aten = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
for _name in LOWERED:
    _aten.impl(_name, _lowered(_name))


def _pinned(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    copy = tensor.clone()
    copy.is_pinned_here = True  # type: ignore[attr-defined]
    return copy


_torch_tensor = torch.tensor


def _tensor(data: Any, *, device: Any = None, **more: Any) -> torch.Tensor:
    """torch.tensor allocates where no dispatch mode sees it: made on the host, then copied, as CUDA does too."""
    made = _torch_tensor(data, **more)
    return made if device is None else made.to(device)


@contextlib.contextmanager
def simulated(capacity: int = 1 << 40) -> Iterator[Simulation]:
    """The device is there, with this much memory, until the block ends."""
    global _now
    before = torch.Tensor.pin_memory, torch.inference_mode, torch.tensor
    _now = Simulation(capacity)
    torch.Tensor.pin_memory = _pinned  # type: ignore[method-assign,assignment]
    torch.tensor = _tensor  # type: ignore[assignment]
    torch.inference_mode = torch.no_grad  # type: ignore[misc,assignment]  # a wrapped tensor cannot be an inference one
    try:
        with _Mode():
            yield _now
    finally:
        torch.Tensor.pin_memory, torch.inference_mode, torch.tensor = before  # type: ignore[method-assign,misc]
        _now = None
