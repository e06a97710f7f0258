"""A checkpoint file as a live model: identified, checked before anything is allocated, filled, ready to evaluate.

Owns the order: identify, understand, plan, check shapes, allocate, read. Reads only the records that the model needs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import nn

from evalcore.archive.container.directory import Directory, digest_of_bytes
from evalcore.archive.container.source import OpenFile, Source
from evalcore.archive.errors import ArchiveError
from evalcore.archive.meaning.family import refuse_family
from evalcore.archive.meaning.state_dicts import State, choose_state, is_derived
from evalcore.archive.payload import identify
from evalcore.archive.pickle.values import StorageRef, TensorRef
from evalcore.archive.summary import Reading, Summary, notes_of, summary_of, understand
from evalcore.loading.weights import Records, Target, fill, read_tensors, records_of
from evalcore.messages import ModelSpec
from evalcore.models import factory
from evalcore.models import plan_model as plan_family
from evalcore.models.decoder import allocated, on_meta
from evalcore.models.plan import CheckpointError, Plan

__all__ = ["CheckpointError", "LoadedModel", "load_checkpoint", "still_same"]

_FLOATS = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")


@dataclass
class LoadedModel:
    """A model ready to evaluate: eval mode, float32 weights, no gradients. It keeps its file open until `close`.

    context_length: the most positions, None where there is no bound. read_bytes: bytes of records read and verified.
    notes: what is unusual about the file, for a result's note.
    """

    model: nn.Module
    family: str
    config: dict[str, Any] | None
    context_length: int | None
    vocab_size: int
    parameters: int
    step: int | None
    step_source: str | None
    logged_val_loss: float | None
    tokens_seen: int | None
    notes: list[str]
    digest: str
    read_bytes: int
    size_bytes: int = 0
    plan: Plan | None = None
    files: list[OpenFile] = field(default_factory=list)
    records: Records | None = None
    storages: dict[str, StorageRef] = field(default_factory=dict)

    def close(self) -> None:
        """Close the checkpoint's file; the model stays."""
        for file in self.files:
            file.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@torch.inference_mode(False)  # ordinary tensors always: the reading threads have a mode of their own
def load_checkpoint(
    source: Source,
    *,
    spec: ModelSpec | None = None,
    device: str = "cpu",
    verify: str = "model",
    require_zip: bool = False,
    reuse: LoadedModel | None = None,
    expect_digest: str | None = None,
    expect_size_bytes: int | None = None,
    path: str | None = None,
    report: Callable[[int, int], None] | None = None,
) -> LoadedModel:
    """Load the model of one checkpoint file or Hugging Face folder.

    verify: "model" checks the CRC of what the model needs, "all" of every record. reuse: an earlier model; where the
    file has the same family and sizes its tensors are refilled instead of built again, and `reuse` is then spent, also
    when this fails. path: where sidecar files are looked for when `source` is a descriptor. report(bytes read, bytes
    that the model needs): as a file is read.
    Raises CheckpointError (corrupt, unsafe, unsupported, shape, superseded), OSError where the file cannot be opened.
    """
    spec = spec or ModelSpec()
    try:
        if not isinstance(source, int) and os.path.isdir(source):
            from evalcore.loading.folders import load_folder

            return load_folder(os.fsdecode(source), spec, device, reuse, verify, expect_digest)
        file = OpenFile(source)
        loaded: LoadedModel | None = None
        try:
            _demand_version(file, expect_digest, expect_size_bytes)
            reading = understand(file, path=path, wanted=spec.state, settings=spec.config)
            _demand_digest(reading.payload.digest, expect_digest)
            if require_zip and reading.payload.format != "zip":
                hint = "save it in torch's zip format, or allow it with require_zip = false"
                raise CheckpointError(
                    "unsupported", "the file is in torch's format before 1.6, without checksums", hint
                )
            loaded = _load(file, reading, spec, device, verify, reuse, report)
            return loaded
        except (ArchiveError, CheckpointError) as error:
            if error.kind != "superseded" and _rewritten(file):
                raise CheckpointError("superseded", "the file was rewritten while it was read") from error
            raise
        finally:
            if loaded is None:
                file.close()
    except ArchiveError as error:
        raise CheckpointError(error.kind, error.reason, error.hint) from error
    except RecursionError as error:
        raise CheckpointError("corrupt", "the file nests too deep") from error


def still_same(loaded: LoadedModel) -> bool:
    """Whether the file that was loaded still holds what was loaded; asked after an evaluation.

    Replaced or unlinked, its old content stays readable here and is the same. Written in place it is not, unless every
    byte that the model came from is found again.
    """
    for file in loaded.files:
        now, then = os.fstat(file.fd), file.status
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (then.st_size, then.st_mtime_ns, then.st_ctime_ns):
            continue
        if now.st_size != then.st_size:
            return False
        try:
            if len(loaded.files) > 1 or _digest(file) != loaded.digest:
                return False
            if loaded.records is not None:
                loaded.records.check(loaded.storages.__contains__)
        except ArchiveError:
            return False
    return True


def _rewritten(file: OpenFile) -> bool:
    now = os.fstat(file.fd)
    return (now.st_size, now.st_mtime_ns) != (file.size, file.status.st_mtime_ns)


def _digest(file: OpenFile) -> str:
    found = identify(file)
    return found.digest(file) if isinstance(found, Directory) else digest_of_bytes(file)


def _demand_version(file: OpenFile, digest: str | None, size_bytes: int | None) -> None:
    """The size, and the digest where it is cheap, before the file is read."""
    if size_bytes is not None and file.size != size_bytes:
        raise CheckpointError(
            "superseded", f"the file has {file.size} bytes now, not {size_bytes} as when it was registered"
        )
    if digest is not None:
        try:
            found = identify(file)
        except ArchiveError:
            return  # what is wrong with it now is said by the reading
        if isinstance(found, Directory) and not found.unverified:
            _demand_digest(found.digest(file), digest)


def _demand_digest(found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise CheckpointError("superseded", "the file holds another version than when it was registered")


def _load(
    file: OpenFile,
    reading: Reading,
    spec: ModelSpec,
    device: str,
    verify: str,
    reuse: LoadedModel | None,
    report: Callable[[int, int], None] | None,
) -> LoadedModel:
    summary = summary_of(file, reading)
    state = _usable_state(reading, spec)
    needed = {ref.storage.key: ref.storage.size_bytes for ref in state.tensors.values()}
    total = sum(needed.values()) if verify == "model" else file.size
    records = records_of(file, reading.payload, _counted(report, total) if report is not None else None)
    config = reading.config.values if reading.config else None
    notes = notes_of(reading)
    if reading.config is not None and "settings" in reading.config.source:
        notes.append("configuration from [model] config")
    if len(reading.states) > 1:
        notes.append(f"state dict {state.name}")
    plan: Plan | None = None
    if spec.factory is not None:
        _demand_room(state.tensors, file.size)
        tensors, read_bytes = read_tensors(records, state.tensors)
        wrapped = factory.build(spec, config or {}, tensors, device)
        model: nn.Module = wrapped
        family, vocab_size, context_length = "factory", wrapped.vocab_size, wrapped.context_length
    else:
        plan = _plan(reading, state, config)
        model, read_bytes = build_and_fill(plan, state.tensors, records, device, reuse, file.size)
        notes += plan.notes
        family, vocab_size, context_length = plan.family, plan.vocab_size, plan.context_length
    if verify == "all":
        used = {ref.storage.key for ref in state.tensors.values()}
        read_bytes += records.check(lambda key: key not in used)
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model, family=family, config=config, context_length=context_length, vocab_size=vocab_size,
        parameters=state.parameters, **_told(summary), notes=notes, digest=summary.digest, read_bytes=read_bytes,
        size_bytes=file.size, plan=plan, files=[file], records=records,
        storages={ref.storage.key: ref.storage for ref in state.tensors.values()},
    )  # fmt: skip


def _told(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in ("step", "step_source", "logged_val_loss", "tokens_seen")}


def _usable_state(reading: Reading, spec: ModelSpec) -> State:
    """The chosen state dict, of plain tensors only. Raises CheckpointError where the file has none or hides objects."""
    if spec.factory is None:
        refuse_family(reading.family, reading.trainer)
    if reading.payload.legacy is not None and reading.payload.foreign:
        reason = f"the file, in the format without checksums, names {', '.join(reading.payload.foreign[:5])}"
        raise CheckpointError("unsafe", reason, "save it in torch's zip format, with the state dict and plain values")
    state = reading.state if reading.state is not None else choose_state(reading.states, spec.state)
    strange = {name: what for name, what in state.others.items() if not name.endswith("_extra_state")}
    if strange:
        shown_names = ", ".join(f"{name} ({what})" for name, what in list(strange.items())[:5])
        reason = f"the model's state dict holds something else than tensors: {shown_names}"
        raise CheckpointError("unsafe", reason, "save model.state_dict() alone")
    return state


def _counted(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Pieces add up, whichever thread has read them. Later readings of the same records are not told."""
    read, lock = 0, threading.Lock()

    def passed(more: int) -> None:
        nonlocal read
        with lock:
            read += more
            if read <= total:
                report(read, total)

    return passed


def _plan(reading: Reading, state: State, config: dict[str, Any] | None) -> Plan:
    if config is None:
        reason = f"the file holds a state dict ({reading.family}) but no model configuration"
        raise CheckpointError("unsupported", reason, "give one through [model] config, or save it under 'config'")
    outside = reading.config is not None and not reading.config.source.startswith("payload:")
    if reading.family == "build-nanogpt" and outside and "family" not in config:
        reason = "the weights are named as both nanoGPT and build-nanogpt name them, which differ in their GELU"
        raise CheckpointError("unsupported", reason, 'add family = "nanogpt" or "build-nanogpt" to [model] config')
    return plan_family(reading.family, config, state.tensors)


def build_and_fill(
    plan: Plan,
    state: Mapping[str, TensorRef],
    records: Records,
    device: str,
    reuse: LoadedModel | None,
    file_bytes: int,
) -> tuple[nn.Module, int]:
    """Check every shape against a model on meta, then allocate (or take over `reuse`) and fill; bytes read."""
    meta_model = on_meta(plan.build)
    expected = dict(meta_model.named_parameters())
    check_against(plan, {name: tuple(p.shape) for name, p in expected.items()}, state)
    needed = {source.key: state[source.key] for source in plan.weights.values()}
    _demand_floats(needed)
    _demand_room(needed, file_bytes)
    model = reuse.model if _refillable(reuse, plan, device) else allocated(meta_model, device)
    targets = [
        Target(state[plan.weights[name].key], parameter, plan.weights[name].transposed)
        for name, parameter in model.named_parameters()
    ]
    return model, fill(records, targets)


def _refillable(reuse: LoadedModel | None, plan: Plan, device: str) -> TypeGuard[LoadedModel]:
    """Builds are partials of a class and its frozen sizes: equal ones make interchangeable models."""
    before = reuse.plan.build if reuse is not None and reuse.plan is not None else None
    if reuse is None or not isinstance(before, partial) or not isinstance(plan.build, partial):
        return False
    same = (before.func, before.args) == (plan.build.func, plan.build.args)
    return same and next(reuse.model.parameters()).device.type == torch.device(device).type


def check_against(plan: Plan, expected: dict[str, tuple[int, ...]], state: Mapping[str, TensorRef]) -> None:
    """Names and shapes of the file against the model's. Raises CheckpointError `shape` listing up to five of each."""
    missing = [source.key for source in plan.weights.values() if source.key not in state]
    used = {source.key for source in plan.weights.values()} | {"lm_head.weight"}
    extra = [key for key in state if key not in used and not is_derived(key)]
    wrong = []
    for name, source in plan.weights.items():
        if source.key in state:
            shape = tuple(state[source.key].shape)
            needed = expected[name][::-1] if source.transposed else expected[name]
            if shape != needed:
                wrong.append(f"{source.key} {list(shape)} instead of {list(needed)}")
    problems = [(missing, "missing"), (extra, "unknown"), (wrong, "of the wrong shape")]
    told = [
        f"{len(names)} {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for names, what in problems
        if names
    ]
    if told:
        reason = f"the state dict does not fit a {plan.family} model of its configuration; " + "; ".join(told)
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")


def _demand_floats(state: Mapping[str, TensorRef]) -> None:
    for name, tensor in state.items():
        if tensor.dtype not in _FLOATS:
            hint = "give the checkpoint before quantisation, or model.factory"
            raise CheckpointError(
                "unsupported", f"{name} holds {tensor.dtype} values, not floating-point weights", hint
            )


def _demand_room(state: Mapping[str, TensorRef], file_bytes: int) -> None:
    """No allocation beyond what the file can hold: a stride of 0 makes any size out of one number."""
    unique = {(t.storage.key, t.offset, t.shape, t.stride): t for t in state.values()}
    described = sum(tensor.size_bytes for tensor in unique.values())
    if described > 4 * file_bytes + (64 << 20):
        reason = f"its tensors describe {described} bytes, and the file has {file_bytes}"
        raise CheckpointError("shape", reason, "save the tensors themselves, not views expanded from a single number")
