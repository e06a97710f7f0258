"""One checkpoint file as a model ready to evaluate: identified, understood, planned, filled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from evalcore.archive.container.directory import Directory
from evalcore.archive.container.records import read_entry
from evalcore.archive.container.source import OpenFile, Source
from evalcore.archive.errors import ArchiveError
from evalcore.archive.payload import Payload, identify
from evalcore.archive.summary import Reading, summary_of, understand
from evalcore.loading.build import build_and_fill, demand_size
from evalcore.loading.content import ContentDigest
from evalcore.loading.model import LoadedModel
from evalcore.loading.planning import load_notes, plan_of, usable_state
from evalcore.loading.weights import read_tensors, records_of
from evalcore.messages import ModelSpec
from evalcore.models import factory
from evalcore.models.plan import CheckpointError, Plan

Report = Callable[[int, int], None]  # bytes read, bytes that the model needs


def load_file(
    source: Source,
    spec: ModelSpec,
    device: str,
    verify: str,
    reuse: LoadedModel | None,
    *,
    require_zip: bool,
    expect_digest: str | None,
    expect_size_bytes: int | None,
    path: str | None,
    report: Report | None,
) -> LoadedModel:
    """Load the model of one file. Raises CheckpointError, ArchiveError, OSError."""
    file = OpenFile(source)
    loaded: LoadedModel | None = None
    try:
        _demand_version(file, expect_digest, expect_size_bytes)
        reading = understand(file, path=path, wanted=spec.state, settings=spec.config)
        _demand_digest(reading.payload.digest, expect_digest)
        if require_zip and reading.payload.format != "zip":
            hint = "save it in torch's zip format, or allow it with require_zip = false"
            raise CheckpointError("unsupported", "the file is in torch's format before 1.6, without checksums", hint)
        loaded = _load(file, reading, spec, device, verify, reuse, report)
        return loaded
    except (ArchiveError, CheckpointError) as error:
        if error.kind != "superseded" and _rewritten(file):
            raise CheckpointError("superseded", "the file was rewritten while it was read") from error
        raise
    finally:
        if loaded is None:
            file.close()


def _rewritten(file: OpenFile) -> bool:
    now = os.fstat(file.fd)
    return (now.st_size, now.st_mtime_ns) != (file.size, file.status.st_mtime_ns)


def _demand_version(file: OpenFile, digest: str | None, size_bytes: int | None) -> None:
    """The size, and the digest where it is cheap, before the file is read."""
    if size_bytes is not None and file.size != size_bytes:
        raise CheckpointError(
            "superseded", f"the file has {file.size} bytes now, not {size_bytes} as when it was registered"
        )
    if digest is not None:
        try:
            structure = identify(file)
        except ArchiveError:
            return  # what is wrong with it now is said by the reading
        if isinstance(structure, Directory) and not structure.unverified:
            _demand_digest(structure.digest(file), digest)


def _demand_digest(digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise CheckpointError("superseded", "the file holds another version than when it was registered")


def _load(
    file: OpenFile,
    reading: Reading,
    spec: ModelSpec,
    device: str,
    verify: str,
    reuse: LoadedModel | None,
    report: Report | None,
) -> LoadedModel:
    summary = summary_of(file, reading)
    state = usable_state(reading, spec)
    if spec.factory is not None and state.unseparated is not None:
        state = replace(state, tensors=state.unseparated)  # only the factory knows which of them it needs
    needed = {ref.storage.key: ref.storage.size_bytes for ref in state.tensors.values()}
    total = sum(needed.values()) if verify == "model" else file.size
    content = _content_of(file, reading.payload)
    passed = _counted(report, total) if report is not None else None
    records = records_of(file, reading.payload, passed, content)
    config = reading.config.values if reading.config else None
    notes = load_notes(reading, state, spec)
    plan: Plan | None = None
    if spec.factory is not None:
        demand_size(state.tensors, file.size)
        tensors, read_bytes = read_tensors(records, state.tensors)
        wrapped = factory.build(spec, config or {}, tensors, device)
        model: nn.Module = wrapped
        family, vocab_size, context_length = "factory", wrapped.vocab_size, wrapped.context_length
    else:
        plan = plan_of(reading, state)
        model, read_bytes = build_and_fill(plan, state.tensors, records, device, reuse, file.size)
        notes += plan.notes
        family, vocab_size, context_length = plan.family, plan.vocab_size, plan.context_length
    if verify == "all":
        used = {ref.storage.key for ref in state.tensors.values()}
        read_bytes += records.check(lambda key: key not in used)
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model, family=family, config=config, context_length=context_length, vocab_size=vocab_size,
        parameters=state.parameters, step=summary.step, step_source=summary.step_source,
        logged_val_loss=summary.logged_val_loss, tokens_seen=summary.tokens_seen, notes=notes, digest=summary.digest,
        content_digest=content.value(), read_bytes=read_bytes, size_bytes=file.size, plan=plan, files=[file],
        records=records,
        storages={ref.storage.key: ref.storage for ref in state.tensors.values()},
    )  # fmt: skip


def _content_of(file: OpenFile, payload: Payload) -> ContentDigest:
    """Begins with the pickle, which says what the records mean; a file without records is one record."""
    content = ContentDigest()
    if payload.directory is not None:
        content.add("data.pkl", read_entry(file, payload.directory, payload.directory.entries["data.pkl"]))
    else:
        content.add("file", payload.digest.encode())  # of all its bytes
    return content


def _counted(report: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Pieces add up, whichever thread has read them. Reading the same records again is not reported."""
    read, lock = 0, threading.Lock()

    def passed(more: int) -> None:
        nonlocal read
        with lock:
            read += more
            if read <= total:
                report(read, total)

    return passed
