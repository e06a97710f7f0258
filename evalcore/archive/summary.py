"""What a checkpoint is, without torch and in milliseconds: step, family, configuration, shapes. Reads no weights."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import Any

from evalcore.archive.container.directory import digest_of_bytes
from evalcore.archive.container.legacy import Legacy
from evalcore.archive.container.source import OpenFile, ReportBytes, Source
from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.meaning.config import values_digest
from evalcore.archive.meaning.dcp_folder import DcpFolder, index_folder
from evalcore.archive.meaning.folder_kinds import FolderKind, demand_finished, kind_at
from evalcore.archive.meaning.folders import read_folder
from evalcore.archive.meaning.sidecars import OF_THE_MODEL
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.meaning.step import logged_val_loss_in, step_in, tokens_seen_in
from evalcore.archive.payload import identify
from evalcore.archive.reading import Reading, notes_of, understand, understand_dcp


@dataclass(frozen=True)
class Probe:
    """A structural look: complete to the last byte, no record read. digest: `sha256:...`. format: zip | legacy |
    safetensors."""

    format: str
    digest: str
    size_bytes: int
    unverified: bool = False


@dataclass(frozen=True)
class Summary:
    """The metadata of one checkpoint, each text and list of it bounded.

    format: zip, legacy, safetensors, or a kind of folder such as `hf-folder`. digest: `sha256:...` (Directory.digest);
    of a folder, over its files. size_bytes: of the file.
    step: optimizer steps. step_source: "payload:<key>" or "sidecar:<file>:<key>". trainer: the program that wrote it.
    config: plain values. config_class: the class it was pickled as. config_source: where it was read.
    parameters: elements of the chosen state dict, shared ones once, at most 2^63 - 1.
    tensors: (name, dtype, shape) of that state dict. states: names of all state dicts, the chosen one first.
    logged_val_loss: nats per token, as the trainer logged it. tokens_seen: tokens trained on.
    custom_names: classes and functions named in the file that are neither tensors nor plain containers; at most 200.
    keys: of the payload. unverified: there are no checksums to check the content by. note: what is unusual.
    sidecars: (name, `sha256:...` of the values used) of the files beside it that the configuration comes from.
    assumed: what the file leaves open, `name=value`.
    """

    format: str
    digest: str
    size_bytes: int
    step: int | None = None
    step_source: str | None = None
    family: str = "unknown"
    trainer: str | None = None
    config: dict[str, Any] | None = None
    config_class: str | None = None
    config_source: str | None = None
    parameters: int = 0
    tensors: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    logged_val_loss: float | None = None
    tokens_seen: int | None = None
    custom_names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    unverified: bool = False
    note: str | None = None
    sidecars: tuple[tuple[str, str], ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        return self.format.endswith("-folder") or self.format == "dcp"

    @property
    def width(self) -> int | None:
        """Columns of the first matrix, in most models the token embedding: the width of the residual stream."""
        return next((shape[1] for _, _, shape in self.tensors if len(shape) == 2), None)


def probe(source: Source, report: ReportBytes = lambda done, total: None) -> Probe:
    """Look at the file's structure only. Raises ArchiveError, or OSError where it cannot be opened.

    report: progress on a file without checksums, which is read whole for its digest.
    """
    with OpenFile(source, report) as file:
        structure = identify(file)
        if isinstance(structure, Legacy):
            return Probe(structure.format, digest_of_bytes(file), file.size, True)
        return Probe("zip", structure.digest(file), file.size, structure.unverified)


def summarise(
    source: Source,
    *,
    path: str | None = None,
    state: str | None = None,
    report: ReportBytes = lambda done, total: None,
) -> Summary:
    """Everything that `inspect` shows, without torch. Raises ArchiveError or OSError.

    state: which state dict. report: progress on a file without checksums, which is read whole for its digest.
    """
    if not isinstance(source, int) and os.path.isdir(source):
        place = os.fsdecode(source)
        is_dcp = index_folder(place) is not None
        summary = _summary_of_dcp(place, state) if is_dcp else _summary_of_folder(place, state, report)
        return _with_tokenizer(summary, place)
    with OpenFile(source, report) as file:
        reading = understand(file, path=path, wanted=state)
        summary = summary_of(file, reading)
    place = path or file.path or ""
    is_alone = summary.format == "safetensors" and place
    return _with_tokenizer(summary, os.path.dirname(place) or os.curdir) if is_alone else summary


def _with_tokenizer(summary: Summary, folder: str) -> Summary:
    """Text is read with the folder's own tokenizer where none is given, so it is a part of the model."""
    try:
        with OpenFile(os.path.join(folder, "tokenizer.json")) as file:
            own = ("tokenizer.json", digest_of_bytes(file))
    except OSError:
        return summary
    return replace(summary, sidecars=(*summary.sidecars, own))


def _summary_of_dcp(path: str, state: str | None) -> Summary:
    folder = DcpFolder(path)
    try:
        return replace(summary_of(folder.metadata, understand_dcp(folder, wanted=state)), size_bytes=folder.size_bytes)
    finally:
        folder.close()


def _summary_of_folder(path: str, state: str | None, report: ReportBytes) -> Summary:
    kind = kind_at(path)
    if kind is not None and kind.main:
        return _summary_of_one_file(path, kind, state, report)
    folder = read_folder(path, needs_config=False, report=report)
    folder.close()
    known = bool(folder.config)
    return Summary(
        format="hf-folder", digest=folder.digest, size_bytes=folder.size_bytes, step=folder.step,
        step_source=folder.step_source, family=folder.family if known else "unknown",
        config=folder.config or None, config_source="sidecar:config.json" if known else None,
        parameters=folder.state.parameters, tensors=_listed(folder.state), states=[""], unverified=folder.unverified,
        sidecars=(("config.json", values_digest(folder.config)),) if known else (),
        note="; ".join([*folder.notes, *([] if known else ["the folder holds weights without a config.json"])]) or None,
    )  # fmt: skip


def _summary_of_one_file(path: str, kind: FolderKind, state: str | None, report: ReportBytes) -> Summary:
    """Of a folder whose model is in one file; its digest covers the files that describe the model too."""
    demand_finished(kind)
    main = os.path.join(path, kind.main)
    with OpenFile(main, report) as file:
        summary = summary_of(file, understand(file, path=main, wanted=state))
    whole = hashlib.sha256(f"ckptwatch folder 2\n{kind.main} {summary.digest}\n".encode())
    for name in kind.members:
        if name != kind.main and not name.startswith("tokenizer"):
            with OpenFile(os.path.join(path, name)) as file:
                whole.update(f"{name} {digest_of_bytes(file)}\n".encode())
    return replace(summary, format=f"{kind.name}-folder", digest="sha256:" + whole.hexdigest())


def summary_of(file: OpenFile, reading: Reading) -> Summary:
    """The summary of a reading; small tensors that hold the step or the loss are read from the file."""
    payload, chosen, config = reading.payload, reading.state, reading.config

    def resolve(value: Any) -> Any:
        return payload.scalar(file, value)

    step, step_source = _step(reading, resolve)
    loss = logged_val_loss_in(payload.root, reading.trainer, resolve)
    root = payload.root if isinstance(payload.root, dict) else {}
    return Summary(
        format=payload.format,
        digest=payload.digest,
        size_bytes=file.size,
        step=step,
        step_source=step_source,
        family=reading.family,
        trainer=reading.trainer,
        config=config.values if config else None,
        config_class=config.cls if config else None,
        config_source=config.source if config else None,
        parameters=chosen.parameters if chosen is not None else 0,
        tensors=_listed(chosen) if chosen is not None else [],
        states=[shown(name, 200) for name in _chosen_first(reading)[: LIMITS.listed]],
        logged_val_loss=loss,
        tokens_seen=tokens_seen_in(payload.root, resolve),
        custom_names=payload.custom_names,
        keys=[shown(str(key), 80) for key in list(root)[:200] if isinstance(key, (str, int))],
        unverified=payload.unverified,
        sidecars=(config.sidecar,) if config is not None and config.sidecar is not None else (),
        assumed=tuple(f"{name}={value}" for name, value in reading.assumed.items()),
        note="; ".join(notes_of(reading)) or None,
    )


def _chosen_first(reading: Reading) -> list[str]:
    return sorted(reading.states, key=lambda name: reading.state is None or name != reading.state.name)


def _listed(state: State) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(shown(name, 200), tensor.dtype, tensor.shape) for name, tensor in state.tensors.items()]


def _step(reading: Reading, resolve: Any) -> tuple[int | None, str | None]:
    """(step, source). A key that may hold a planned total comes last, after the sidecar files."""
    if step := step_in(reading.payload.root, reading.trainer, resolve, planned=False):
        return step[0], f"payload:{step[1]}"
    for car in reading.sidecars:
        if car.name in OF_THE_MODEL:
            continue
        if step := step_in(car.values, None, lambda value: value, planned=False):
            return step[0], f"sidecar:{shown(car.name)}:{step[1]}"
    if step := step_in(reading.payload.root, reading.trainer, resolve):
        return step[0], f"payload:{step[1]}"
    return None, None
