"""The weighted mean of several checkpoints as one opened checkpoint: no member is ever in memory as a whole.

Owns what makes members equal, and the arithmetic (float32, in the order given). Writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import shown
from evalcore.archive.meaning.fields import SIZES, architecture_in
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.pickle.values import StorageRef, TensorRef
from evalcore.archive.summary import Summary
from evalcore.loading.reading import Opened, own_plan
from evalcore.loading.weights import bytes_of, view_of
from evalcore.messages import ModelSpec
from evalcore.models import FAMILIES
from evalcore.models.plan import CheckpointError, Plan

_FLOATS = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")
#: Fields of a Hugging Face configuration that describe the file or the library, never the forward pass.
_ABOUT_THE_FILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}
_ALIKE = "average checkpoints of one run and one model only"


@dataclass(frozen=True)
class OpenedMember:
    """One checkpoint of a mean. name: as errors show it."""

    name: str
    opened: Opened
    weight: float


@dataclass(frozen=True)
class MeanRecords:
    """Storages of a mean, named by the tensor. Floating-point values are float32; others are those of the newest."""

    members: tuple[OpenedMember, ...]
    refs: dict[str, tuple[TensorRef, ...]]  # name -> the tensor in each member

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        refs = self.refs[storage.key]
        if refs[0].dtype not in _FLOATS:
            whole = torch.frombuffer(buffer, dtype=getattr(torch, refs[0].dtype)).view(refs[0].shape)
            whole.copy_(_tensor(self.members[0], refs[0]))
            return
        total = torch.frombuffer(buffer, dtype=torch.float32).view(refs[0].shape).zero_()
        for member, ref in zip(self.members, refs, strict=True):
            total.add_(_tensor(member, ref).float(), alpha=member.weight)

    def check(self, wanted: Callable[[str], bool]) -> int:
        """The records of the members that are no part of the mean."""
        total = 0
        for i, member in enumerate(self.members):
            used = {refs[i].storage.key for refs in self.refs.values()}
            total += member.opened.records.check(lambda key, used=used: key not in used)  # type: ignore[misc]
        return total


@dataclass(frozen=True)
class MeanContent:
    """The digest of what was read of each member, and the weights."""

    members: tuple[OpenedMember, ...]

    def value(self) -> str:
        parts = [[member.opened.content.value(), member.weight] for member in self.members]
        return "sha256:" + hashlib.sha256(b"ckptwatch mean 1\n" + json.dumps(parts).encode()).hexdigest()


def mean_of(members: Sequence[OpenedMember], spec: ModelSpec, *, built: bool = True) -> Opened:
    """The mean, described by its newest member, which comes first. The weights add up to 1.

    built: a model of a known family will be made of it, so the members' plans are compared, too.
    Raises CheckpointError `shape` where keys, shapes, dtypes or configurations differ, naming the member.
    """
    newest = members[0].opened
    plan = own_plan(newest) if built and spec.factory is None else None
    for member in members[1:]:
        _demand_alike(members[0], member, plan)
    refs, tensors = _refs(tuple(members))
    state = replace(newest.state, tensors=tensors)
    return Opened(
        newest.reading,
        _summary(members, newest.summary, state),
        state,
        MeanRecords(tuple(members), refs),
        MeanContent(tuple(members)),
        partial(_files, tuple(members)),
        lambda: any(member.opened.rewritten() for member in members),
        partial(_late_notes, tuple(members)),
        newest.otherwise,
    )


def _refs(members: tuple[OpenedMember, ...]) -> tuple[dict[str, tuple[TensorRef, ...]], dict[str, TensorRef]]:
    """(name -> the tensor in each member, name -> the tensor of the mean). Names that share a tensor still share it."""
    refs: dict[str, tuple[TensorRef, ...]] = {}
    tensors: dict[str, TensorRef] = {}
    first_name: dict[tuple[TensorRef, ...], str] = {}
    for name in members[0].opened.state.tensors:
        each = tuple(member.opened.state.tensors[name] for member in members)
        first = first_name.setdefault(each, name)
        refs[first] = each
        tensors[name] = _reference(first, each[0])
    return refs, tensors


def _reference(name: str, ref: TensorRef) -> TensorRef:
    """A contiguous tensor in a storage of its own, of float32 where it is averaged."""
    dtype = "float32" if ref.dtype in _FLOATS else ref.dtype
    stride: list[int] = []
    step = 1
    for size in reversed(ref.shape):
        stride.insert(0, step)
        step *= size
    blank = TensorRef(StorageRef(name, dtype, 0), dtype, 0, ref.shape, tuple(stride))
    return replace(blank, storage=StorageRef(name, dtype, blank.size_bytes))


def _tensor(member: OpenedMember, ref: TensorRef) -> Tensor:
    raw = torch.empty(ref.storage.size_bytes, dtype=torch.uint8)
    if raw.numel():
        member.opened.records.read(ref.storage, bytes_of(raw))
    return view_of(raw, ref)


def _demand_alike(newest: OpenedMember, member: OpenedMember, plan: Plan | None) -> None:
    """Equal family, names, shapes, dtypes and configuration. Raises CheckpointError naming the member."""
    left, right = newest.opened, member.opened
    names = f"{newest.name} and {member.name}"
    if (left.reading.family, left.summary.assumed) != (right.reading.family, right.summary.assumed):
        kinds = f"{left.reading.family} and {right.reading.family}"
        raise CheckpointError("shape", f"{names} are of different models ({shown(kinds)})", _ALIKE)
    ours, theirs = left.state.tensors, right.state.tensors
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())
        listed = f"{', '.join(map(shown, only[:5]))}{' ...' * (len(only) > 5)}"
        raise CheckpointError("shape", f"{names} do not hold the same tensors: only one has {listed}", _ALIKE)
    for name, ref in ours.items():
        if (ref.shape, ref.dtype) != (theirs[name].shape, theirs[name].dtype):
            sizes = f"{ref.dtype} {list(ref.shape)} and {theirs[name].dtype} {list(theirs[name].shape)}"
            raise CheckpointError("shape", f"{names} differ in {shown(name)}: {sizes}", _ALIKE)
    if differing := _differing(left, right):
        raise CheckpointError("shape", f"{names} differ in their configuration: {', '.join(differing[:5])}", _ALIKE)
    if plan is not None:
        other = own_plan(right)
        if other is None or _sizes(plan) != _sizes(other) or plan.weights != other.weights:
            raise CheckpointError("shape", f"{names} are built as different models", _ALIKE)


def _sizes(plan: Plan) -> Any:
    """The frozen sizes that the family's class is built with."""
    return getattr(plan.build, "args", None)


def _differing(left: Opened, right: Opened) -> list[str]:
    """Fields about sizes or architecture whose values differ; others, such as a learning rate, may."""
    ours = left.reading.config.values if left.reading.config else {}
    theirs = right.reading.config.values if right.reading.config else {}
    sizes = {name for names in SIZES.values() for name in names}
    changed = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if left.otherwise is not None and left.reading.family not in FAMILIES:  # another library knows what its fields mean
        about = set(changed) - _ABOUT_THE_FILE
    else:
        about = set(architecture_in({name: ours.get(name, theirs.get(name)) for name in changed}))
    return [f"{shown(name)} = {shown(ours.get(name))} and {shown(theirs.get(name))}"
            for name in changed if name in sizes or name in about]  # fmt: skip


def _summary(members: Sequence[OpenedMember], newest: Summary, state: State) -> Summary:
    """The newest member's; a loss that its trainer logged is not the mean's."""
    size_bytes = sum(ref.size_bytes for ref in {id(r): r for r in state.tensors.values()}.values())
    digests = json.dumps([[member.opened.summary.digest, member.weight] for member in members])
    digest = "sha256:" + hashlib.sha256(b"ckptwatch mean members 1\n" + digests.encode()).hexdigest()
    return replace(newest, digest=digest, size_bytes=max(size_bytes, newest.size_bytes), logged_val_loss=None)


def _step(member: OpenedMember) -> str:
    step = member.opened.summary.step
    return "" if step is None else f" (step {step})"


def _files(members: tuple[OpenedMember, ...]) -> list[OpenFile]:
    return [file for member in members for file in member.opened.open_files()]


def _late_notes(members: tuple[OpenedMember, ...]) -> list[str]:
    names = ", ".join(f"{shown(m.name)}{_step(m)} x {m.weight:.4g}" for m in members[:8])
    notes = [note for member in members for note in member.opened.late_notes()]
    return [f"mean of {len(members)} checkpoints: {names}{' ...' * (len(members) > 8)}", *notes[:1]]
