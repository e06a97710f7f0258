"""Which device a launch may use now: never a GPU below the memory reserve, outside the device list, or taken already.

Decides from what the driver reported (driver.py). CUDA_VISIBLE_DEVICES of the daemon limits the choice; its indexes are
read in PCI order, as `launch.devices` are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from watcher.launch.driver import Gpu, list_gpus
from watcher.settings.schema import LaunchSettings

TRAINING_OVER_S = 300.0  # `after_training`: a GPU unused for this long; a trainer that restarts is back before
UNOBSERVED_S = 60.0  # after a longer pause between two looks, nothing is known about the time between them


@dataclass(frozen=True)
class Choice:
    """What to launch on; `wait_for` says why nothing can be launched now."""

    device: str
    devices: tuple[str, ...] = ()
    wait_for: str | None = None


@dataclass
class _Unused:
    """Since when a GPU has been seen without foreign work, and when it was last looked at."""

    since_s: float
    seen_s: float
    was_given: bool = False  # to a launch of this daemon, since then


class DevicePool:
    """Chooses GPUs for launches, and remembers since when each has been unused."""

    def __init__(self, list_gpus: Callable[[], list[Gpu]], visible: str | None) -> None:
        """visible: the daemon's own CUDA_VISIBLE_DEVICES; None where it is not set."""
        self._list_gpus = list_gpus
        self._visible = None if visible is None else parse_visible(visible)
        self._unused: dict[str, _Unused] = {}

    @classmethod
    def of_this_machine(cls) -> DevicePool:
        return cls(list_gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))

    def choose(self, settings: LaunchSettings, taken: Collection[str], now_s: float) -> Choice:
        """The devices of the next launch. taken: `devices` of the launches that run."""
        if settings.device == "cpu":
            return Choice("cpu")
        if self._visible and any(name.startswith("MIG-") for name in self._visible):
            return _mig_slices(self._visible, settings, taken)
        gpus = self._list_gpus()
        if gpus and self._visible is not None:
            gpus = [gpu for gpu in gpus if _is_listed(gpu, self._visible)]
            if not gpus and settings.device == "cuda":
                return _otherwise(settings.fallback, "CUDA_VISIBLE_DEVICES of the daemon leaves no GPU")
        self._observe(gpus, taken, now_s)
        if settings.when == "after_training":
            rested = {key for key, unused in self._unused.items() if now_s - unused.since_s >= TRAINING_OVER_S}
            choice = choose(settings, gpus, taken, lambda gpu: gpu.key in rested)
        elif settings.when == "free":
            choice = choose(settings, gpus, taken, lambda gpu: not gpu.is_used)
        else:
            choice = choose(settings, gpus, taken, lambda gpu: True)
        for key in choice.devices:
            if key in self._unused:
                self._unused[key].was_given = True
        return choice

    def _observe(self, gpus: Sequence[Gpu], taken: Collection[str], now_s: float) -> None:
        for gpu in gpus:
            if _is_listed(gpu, taken):
                continue  # its processes may be those of the launch
            before = self._unused.get(gpu.key)
            if gpu.is_used:
                self._unused.pop(gpu.key, None)
            elif before is None or (now_s - before.seen_s > UNOBSERVED_S and not before.was_given):
                self._unused[gpu.key] = _Unused(now_s, now_s)
            else:
                before.seen_s, before.was_given = now_s, False


def choose(
    settings: LaunchSettings, gpus: Sequence[Gpu], taken: Collection[str], unused: Callable[[Gpu], bool]
) -> Choice:
    """Decide from one look at the GPUs: the freest that are allowed. unused: does `launch.when` permit this one?"""
    if settings.device == "cpu" or (settings.device == "auto" and not gpus):
        return Choice("cpu")
    if not gpus:
        return _otherwise(settings.fallback, "launch.device is cuda, and the driver shows no GPU")
    allowed = [gpu for gpu in gpus if not settings.devices or _is_listed(gpu, settings.devices)]
    if not allowed:
        return _otherwise(settings.fallback, f"none of the GPUs {', '.join(settings.devices)} is available")
    left = [gpu for gpu in allowed if not _is_listed(gpu, taken)]
    free = [gpu for gpu in left if gpu.free_bytes >= settings.reserve_bytes and unused(gpu)]
    if len(free) < settings.nproc:
        return _otherwise(settings.fallback, _shortage(settings, allowed, left, unused))
    free.sort(key=lambda gpu: -gpu.free_bytes)
    return Choice("cuda", tuple(gpu.key for gpu in free[: settings.nproc]))


def parse_visible(text: str) -> tuple[str, ...]:
    """CUDA_VISIBLE_DEVICES: indexes, UUIDs or their beginnings; what follows an invalid entry does not count."""
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if not (name.isdigit() or name.startswith(("GPU-", "MIG-"))):
            break
        names.append(name)
    return tuple(names)


def _is_listed(gpu: Gpu, names: Collection[str]) -> bool:
    return any(name == gpu.index or (name.startswith("GPU-") and gpu.uuid.startswith(name)) for name in names)


def _mig_slices(visible: Sequence[str], settings: LaunchSettings, taken: Collection[str]) -> Choice:
    """The driver lists whole GPUs only: slices are handed on as they were given, without a look at their memory."""
    left = [name for name in visible if name not in taken]
    if len(left) < settings.nproc:
        return _otherwise(settings.fallback, f"{settings.nproc} MIG slice(s) needed, {len(left)} not taken")
    return Choice("cuda", tuple(left[: settings.nproc]))


def _shortage(
    settings: LaunchSettings, allowed: Sequence[Gpu], left: Sequence[Gpu], unused: Callable[[Gpu], bool]
) -> str:
    gib = 2**30
    need = f"{settings.nproc} GPU(s) with {settings.reserve_bytes / gib:.1f} GiB free"
    need += {"always": "", "free": " and no other process"}.get(
        settings.when, f" and unused for {TRAINING_OVER_S / 60:.0f} min"
    )
    most = max(gpu.free_bytes for gpu in allowed) / gib
    facts = [f"the freest of {len(allowed)} has {most:.1f} GiB"]
    if len(left) < len(allowed):
        facts.append(f"{len(allowed) - len(left)} taken by other launches")
    if used := sum(not unused(gpu) for gpu in left):
        facts.append(f"{used} in use" if settings.when == "free" else f"{used} in use lately")
    return f"{need} needed; {', '.join(facts)}"


def _otherwise(fallback: str, reason: str) -> Choice:
    return Choice("cpu") if fallback == "cpu" else Choice("cuda", wait_for=reason)
