"""Which device a launch may use now: never a GPU below the memory reserve, outside the device list, or taken already.

Decides from what the driver reported (driver.py). CUDA_VISIBLE_DEVICES of the daemon limits the choice; its indexes are
read in PCI order, as `launch.devices` are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from evalcore.device_memory import ModelSize, needed_bytes
from evalcore.messages import LaunchSpec
from watcher.launch.driver import DriverReport, Gpu, ask_driver
from watcher.settings.schema import LaunchSettings

TRAINING_OVER_S = 300.0  # `after_training`: a GPU unused for this long; a trainer that restarts is back before
UNOBSERVED_S = 60.0  # after a longer pause between two looks, nothing is known about the time between them
HUNG_PAUSE_S = 60.0  # a driver that does not answer costs seconds each time it is asked
ROCM_FILE = "/dev/kfd"
ONE_SLICE = "a process of CUDA sees one; set launch.nproc = 1"


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

    def __init__(self, ask: Callable[[], DriverReport], visible: str | None, has_rocm: bool = False) -> None:
        """visible: the daemon's own CUDA_VISIBLE_DEVICES; None where it is not set. has_rocm: an AMD GPU is here."""
        self._ask = ask
        self._visible = None if visible is None else parse_visible(visible)
        self._has_rocm = has_rocm
        self._unused: dict[str, _Unused] = {}
        self._hung: tuple[float, DriverReport] | None = None

    @classmethod
    def of_this_machine(cls) -> DevicePool:
        return cls(ask_driver, os.environ.get("CUDA_VISIBLE_DEVICES"), os.path.exists(ROCM_FILE))

    def choose(
        self,
        settings: LaunchSettings,
        taken: Collection[str],
        now_s: float,
        largest: ModelSize | None = None,
        spec: LaunchSpec | None = None,
    ) -> Choice:
        """The devices of the next launch. taken: `devices` of the launches that run, or the `device` of one without.

        largest: the largest model that waits, where it is known. spec: what the launch measures.
        """
        if settings.device == "cpu":
            return Choice("cpu")
        if settings.device not in ("auto", "cuda"):
            return _whole(settings.device, settings, taken)
        if self._visible == () and settings.device == "auto":
            return Choice("cpu")  # CUDA_VISIBLE_DEVICES hides every GPU: nothing needs to be asked
        report = self._report(now_s)
        if report.problem:
            return _otherwise(settings.fallback, report.problem)
        if not (report.gpus or report.left_out) and self._has_rocm:
            return _whole("cuda", settings, taken)
        slices = [name for name in self._visible or () if name.startswith("MIG-")]
        if slices and not any(_is_listed(gpu, slices) for gpu in report.gpus):
            return _unseen_slices(slices, settings, taken)
        gpus = list(report.gpus)
        if report.left_out and not gpus:
            return _otherwise(settings.fallback, "; ".join(report.left_out))
        if gpus and self._visible is not None:
            gpus = visible_gpus(gpus, self._visible)
            if not gpus:
                return _otherwise(settings.fallback, "CUDA_VISIBLE_DEVICES of the daemon leaves no GPU")
        self._observe(gpus, taken, now_s)
        settings = settings.model_copy(update={"reserve_bytes": reserve_bytes(settings, largest, spec)})
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

    def _report(self, now_s: float) -> DriverReport:
        if self._hung is not None and now_s - self._hung[0] < HUNG_PAUSE_S:
            return self._hung[1]
        report = self._ask()
        self._hung = (now_s, report) if report.problem else None
        return report

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
    free = [gpu for gpu in left if gpu.free_bytes >= reserve_bytes(settings) and unused(gpu)]
    if settings.nproc > 1:  # a process of CUDA sees one slice at most, whatever its list says
        free = [gpu for gpu in free if not gpu.uuid.startswith("MIG-")]
    if len(free) < settings.nproc:
        return _otherwise(settings.fallback, _shortage(settings, allowed, left, unused))
    free.sort(key=lambda gpu: -gpu.free_bytes)
    return Choice("cuda", tuple(gpu.key for gpu in free[: settings.nproc]))


def reserve_bytes(settings: LaunchSettings, largest: ModelSize | None = None, spec: LaunchSpec | None = None) -> int:
    """Free memory that a GPU must have: as set, or what a rank takes for the largest model that waits."""
    if settings.reserve_bytes != "auto":
        return settings.reserve_bytes
    if largest is not None and spec is not None and spec.model.factory is not None:
        largest = replace(largest, is_family=False)
    sets = spec.eval_sets if spec is not None else ()
    return needed_bytes(largest, [each.dtype for each in sets], max((each.seq_len or 0 for each in sets), default=0))


def parse_visible(text: str) -> tuple[str, ...]:
    """CUDA_VISIBLE_DEVICES: indexes, UUIDs or their beginnings, as CUDA reads them.

    What follows an invalid entry does not count; an entry given twice makes the list empty.
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if number := re.match(r"\+?([0-9]+)", name):  # as strtoul reads it: what follows the digits is left aside
            name = str(int(number[1]))
        elif not name.startswith(("GPU-", "MIG-")):
            break
        if name in names:
            return ()
        names.append(name)
    return tuple(names)


def visible_gpus(gpus: Sequence[Gpu], names: Sequence[str]) -> list[Gpu]:
    """The GPUs that CUDA shows for the list. An entry that is out of range or ambiguous ends it; one GPU twice: none.

    An index below the highest one belongs to a GPU that is cut or lost: it is passed over.
    """
    highest = max((int(gpu.index) for gpu in gpus if gpu.index), default=-1)
    shown: list[Gpu] = []
    for name in names:
        matching = [gpu for gpu in gpus if _is_listed(gpu, (name,))]
        if not matching and name.isdigit() and int(name) < highest:
            continue
        if len(matching) != 1:
            break
        if matching[0] in shown:
            return []
        shown += matching
    return shown


def _is_listed(gpu: Gpu, names: Collection[str]) -> bool:
    return any(
        name == gpu.index or (name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)) for name in names if name
    )


def _whole(device: str, settings: LaunchSettings, taken: Collection[str]) -> Choice:
    """A device of which nothing can be asked (ROCm, XPU, MPS): one launch at a time has all of it."""
    if device in taken:
        return _otherwise(settings.fallback, f"another launch is on {device}, of which no memory is known")
    return Choice(device)


def _unseen_slices(visible: Sequence[str], settings: LaunchSettings, taken: Collection[str]) -> Choice:
    """Slices that the driver does not list are handed on as they were given, without a look at their memory."""
    left = [name for name in visible if name not in taken]
    if settings.nproc > 1:
        return _otherwise(settings.fallback, f"a launch of {settings.nproc} ranks cannot use MIG slices: {ONE_SLICE}")
    if len(left) < settings.nproc:
        return _otherwise(settings.fallback, f"{settings.nproc} MIG slice(s) needed, {len(left)} not taken")
    return Choice("cuda", tuple(left[: settings.nproc]))


def _shortage(
    settings: LaunchSettings, allowed: Sequence[Gpu], left: Sequence[Gpu], unused: Callable[[Gpu], bool]
) -> str:
    gib = 2**30
    need = f"{settings.nproc} GPU(s) with {reserve_bytes(settings) / gib:.1f} GiB free"
    need += {"always": "", "free": " and no other process"}.get(
        settings.when, f" and unused for {TRAINING_OVER_S / 60:.0f} min"
    )
    most = max(gpu.free_bytes for gpu in allowed) / gib
    facts = [f"the freest of {len(allowed)} has {most:.1f} GiB"]
    if len(left) < len(allowed):
        facts.append(f"{len(allowed) - len(left)} taken by other launches")
    if settings.nproc > 1 and (slices := sum(gpu.uuid.startswith("MIG-") for gpu in left)):
        facts.append(f"{slices} MIG slice(s) do not count ({ONE_SLICE})")
    if used := sum(not unused(gpu) for gpu in left):
        facts.append(f"{used} in use" if settings.when == "free" else f"{used} in use lately")
    return f"{need} needed; {', '.join(facts)}"


def _otherwise(fallback: str, reason: str) -> Choice:
    return Choice("cpu") if fallback == "cpu" else Choice("cuda", wait_for=reason)
