"""From a payload understood and its records to a model ready to evaluate, for files and DCP folders alike.

Owns the choice between a family and a factory. Opens no file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from evalcore.archive.container.source import OpenFile
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.summary import Reading, Summary
from evalcore.loading.build import build_and_fill, demand_size
from evalcore.loading.content import ContentDigest
from evalcore.loading.model import LoadedModel
from evalcore.loading.planning import load_notes, plan_of, usable_state
from evalcore.loading.weights import Records, read_tensors
from evalcore.messages import ModelSpec
from evalcore.models import factory
from evalcore.models.plan import Plan

Report = Callable[[int, int], None]  # bytes read, bytes that the model needs


def loadable_state(reading: Reading, spec: ModelSpec) -> State:
    """The chosen state dict; all tensors of its mapping where a factory decides which of them it needs."""
    state = usable_state(reading, spec)
    if spec.factory is not None and state.unseparated is not None:
        return replace(state, tensors=state.unseparated)
    return state


def bytes_needed(state: State) -> int:
    """Bytes of the storages of a state dict, each counted once."""
    return sum({ref.storage.key: ref.storage.size_bytes for ref in state.tensors.values()}.values())


def load_reading(
    reading: Reading,
    summary: Summary,
    state: State,
    records: Records,
    content: ContentDigest,
    *,
    spec: ModelSpec,
    device: str,
    verify: str,
    reuse: LoadedModel | None,
    files: list[OpenFile],
) -> LoadedModel:
    """Build the model and fill it from the records. Raises CheckpointError, ArchiveError."""
    config = reading.config.values if reading.config else None
    notes = load_notes(reading, state, spec)
    size_bytes = summary.size_bytes
    plan: Plan | None = None
    if spec.factory is not None:
        demand_size(state.tensors, size_bytes)
        tensors, read_bytes = read_tensors(records, state.tensors)
        wrapped = factory.build(spec, config or {}, tensors, device)
        model: nn.Module = wrapped
        family, vocab_size, context_length = "factory", wrapped.vocab_size, wrapped.context_length
    else:
        plan = plan_of(reading, state)
        model, read_bytes = build_and_fill(plan, state.tensors, records, device, reuse, size_bytes)
        notes += plan.notes
        family, vocab_size, context_length = plan.family, plan.vocab_size, plan.context_length
    storages = {ref.storage.key: ref.storage for ref in state.tensors.values()}
    if verify == "all":
        read_bytes += records.check(lambda key: key not in storages)
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model, family=family, config=config, context_length=context_length, vocab_size=vocab_size,
        parameters=state.parameters, step=summary.step, step_source=summary.step_source,
        logged_val_loss=summary.logged_val_loss, tokens_seen=summary.tokens_seen, notes=notes, digest=summary.digest,
        content_digest=content.value(), read_bytes=read_bytes, size_bytes=size_bytes, plan=plan, files=files,
        records=records, storages=storages,
    )  # fmt: skip


def counted(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Pieces add up, whichever thread has read them. Reading the same records again is not reported."""
    read, lock = 0, threading.Lock()

    def passed(more: int) -> None:
        nonlocal read
        with lock:
            read += more
            if read <= total:
                report(read, total)

    return passed
