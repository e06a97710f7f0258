"""An opened checkpoint (payload understood, no record read) and the model made of it, for files and DCP folders alike.

Owns the choice between a family and a factory. Opens no file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import nn

from evalcore.archive.container.source import OpenFile, ReportBytes
from evalcore.archive.errors import ArchiveError
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.reading import Reading
from evalcore.archive.summary import Summary
from evalcore.loading.build import build_and_fill, demand_size
from evalcore.loading.model import LoadedModel
from evalcore.loading.planning import load_notes, plan_of, usable_state
from evalcore.loading.weights import Passed, Records, read_tensors
from evalcore.messages import ModelSpec
from evalcore.models import FAMILIES, factory
from evalcore.models.plan import CheckpointError, NeedsTransformers, Plan


class Content(Protocol):
    """The digest of what was read so far."""

    def value(self) -> str:
        """`sha256:...`."""


@dataclass(frozen=True)
class OpenOptions:
    """How a checkpoint is opened.

    verify: "model" checks the CRC of what the model needs, "all" of every record. require_zip: refuse weights
    without checksums. expect_digest, expect_size_bytes: of the registered version; None where there is none. path:
    where sidecar files are looked for, when the source is a descriptor or a copy. report(bytes read, bytes that the
    model needs): as records are read. wants_content: whether the content digest will be read.
    """

    spec: ModelSpec = field(default_factory=ModelSpec)
    verify: str = "model"
    require_zip: bool = False
    expect_digest: str | None = None
    expect_size_bytes: int | None = None
    path: str | None = None
    report: ReportBytes | None = None
    wants_content: bool = True


@dataclass(frozen=True)
class LoadOptions:
    """How an opened checkpoint becomes a model.

    verify: as in OpenOptions. reuse: an earlier model; where the checkpoint has the same family and sizes its tensors
    are refilled instead of built again, and `reuse` is then spent, also when this fails. linear_dtype: of the weights
    of linear layers in built-in families; lower than float32 only for a model that is measured in that dtype alone.
    """

    spec: ModelSpec = field(default_factory=ModelSpec)
    device: str = "cpu"
    verify: str = "model"
    reuse: LoadedModel | None = None
    linear_dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Opened:
    """A checkpoint of which nothing but its description was read. state: the tensors that its model needs.

    late_notes: what only the reading of the records shows. otherwise: builds and fills a model type that no family here
    has, and returns it with the bytes read; None where there is no such way.
    """

    reading: Reading
    summary: Summary
    state: State
    records: Records
    content: Content
    open_files: Callable[[], list[OpenFile]]
    rewritten: Callable[[], bool]
    late_notes: Callable[[], list[str]] = list
    otherwise: Callable[[Records, State, str], tuple[nn.Module, int]] | None = None

    def close(self) -> None:
        for file in self.open_files():
            file.close()


def loadable_state(reading: Reading, spec: ModelSpec) -> State:
    """The chosen state dict; all tensors of its mapping where a factory decides which of them it needs."""
    state = usable_state(reading, spec)
    if spec.factory is not None and state.unseparated is not None:
        return replace(state, tensors=state.unseparated)
    return state


def bytes_needed(state: State) -> int:
    """Bytes of the storages of a state dict, each counted once."""
    return sum({ref.storage.key: ref.storage.size_bytes for ref in state.tensors.values()}.values())


def own_plan(opened: Opened) -> Plan | None:
    """The plan of a built-in family; None where the model is built otherwise. Raises CheckpointError."""
    if opened.otherwise is not None and opened.reading.family not in FAMILIES:
        return None
    try:
        return plan_of(opened.reading, opened.state)
    except NeedsTransformers:
        if opened.otherwise is None:
            raise
        return None


def load_opened(opened: Opened, options: LoadOptions) -> LoadedModel:
    """The model, filled from the records; the checkpoint is closed where that fails.

    Raises CheckpointError, ArchiveError; `superseded` where the checkpoint was rewritten meanwhile.
    """
    loaded: LoadedModel | None = None
    try:
        loaded = _load(opened, options)
        return loaded
    except (ArchiveError, CheckpointError) as error:
        if error.kind != "superseded" and opened.rewritten():
            raise CheckpointError("superseded", "the checkpoint was rewritten while it was read") from error
        raise
    finally:
        if loaded is None:
            opened.close()


def _load(opened: Opened, options: LoadOptions) -> LoadedModel:
    spec, device = options.spec, options.device
    reading, summary, state, records = opened.reading, opened.summary, opened.state, opened.records
    config = reading.config.values if reading.config else None
    notes = load_notes(reading, state, spec)
    size_bytes = summary.size_bytes
    plan: Plan | None = None
    if spec.factory is not None:
        demand_size(state.tensors, size_bytes)
        tensors, read_bytes = read_tensors(records, state.tensors)
        wrapped = factory.build(spec, config or {}, tensors, device)
        model: nn.Module = wrapped
        notes += wrapped.notes
        family, vocab_size, context_length = "factory", wrapped.vocab_size, wrapped.context_length
    elif (plan := own_plan(opened)) is None:
        assert opened.otherwise is not None  # own_plan has looked
        model, read_bytes = opened.otherwise(records, state, device)
        family, vocab_size = reading.family, int(model.vocab_size)  # type: ignore[arg-type]  # factory.wrap sets it
        context_length = getattr(model, "context_length", None)
        notes += getattr(model, "notes", [])
    else:
        model, read_bytes = build_and_fill(
            plan, state.tensors, records, device, options.reuse, size_bytes, options.linear_dtype
        )
        notes += plan.notes
        family, vocab_size, context_length = plan.family, plan.vocab_size, plan.context_length
    storages = {ref.storage.key: ref.storage for ref in state.tensors.values()}
    if options.verify == "all":
        read_bytes += records.check(lambda key: key not in storages)
    model.eval().requires_grad_(False)
    notes += opened.late_notes()
    return LoadedModel(
        model=model, family=family, config=config, context_length=context_length, vocab_size=vocab_size,
        parameters=state.parameters, step=summary.step, step_source=summary.step_source,
        logged_val_loss=summary.logged_val_loss, tokens_seen=summary.tokens_seen, notes=notes, digest=summary.digest,
        content_digest=opened.content.value(), read_bytes=read_bytes, size_bytes=size_bytes, plan=plan,
        files=opened.open_files(),
        records=records, storages=storages,
    )  # fmt: skip


def without_checksums(file: str, form: str) -> CheckpointError:
    """The refusal of a file in this format where `require_zip` is set."""
    words = {
        "zip": "in torch's zip format", "safetensors": "in the safetensors format", "llmc": "llm.c's",
        "legacy": "in torch's format before 1.6",
    }  # fmt: skip
    hint = "save it in torch's zip format, with checksums, or allow it with `[launch] require_zip = false`"
    return CheckpointError("unsupported", f"{file} is {words[form]}, without checksums", hint)


def counted(report: ReportBytes | None, total: int) -> Passed:
    """Adds up the pieces that any thread has read; None without a report. Records read again are not reported."""
    if report is None:
        return None
    read, lock = 0, threading.Lock()

    def passed(more: int) -> None:
        nonlocal read
        with lock:
            read += more
            if read <= total:
                report(read, total)

    return passed
