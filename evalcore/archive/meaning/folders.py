"""Hugging Face folders, and the words for every folder that is recognised by its markers and refused.

Owns which files of a folder matter. Reads headers and pickles, never weights.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from evalcore.archive.container.directory import digest_of_bytes
from evalcore.archive.container.safetensors import read_header
from evalcore.archive.container.source import OpenFile, ReportBytes
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.meaning.family import family_of
from evalcore.archive.meaning.folder_kinds import SHARD, demand_finished, kind_at
from evalcore.archive.meaning.folder_notes import RECIPE_STATE, notes_of_folder, step_of_recipe
from evalcore.archive.meaning.megatron import FROM_RANKS, refusal_of_folder
from evalcore.archive.meaning.sidecars import read_values
from evalcore.archive.meaning.state_dicts import State, choose_state, find_states, strip
from evalcore.archive.meaning.step import step_in
from evalcore.archive.meaning.trainer import refuse_family
from evalcore.archive.payload import Payload, read_payload
from evalcore.archive.pickle.values import TensorRef

_TO_HF = "export it to a Hugging Face folder, and give that"
_MARKERS: tuple[tuple[str, str, str], ...] = (
    (r"model_and_optim$", "an OLMo-core step whose model_and_optim/.metadata is missing",
     "save it again: that file is written when all ranks are done"),
    (r"zero_to_fp32\.py$|global_step\d+$|.*zero_pp_rank_.*", "a DeepSpeed checkpoint",
     "run the zero_to_fp32.py beside it, and give the file that it writes"),
    (r"mp_rank_\d+_model_states\.pt$", "a DeepSpeed checkpoint of a model that several ranks share",
     "run the zero_to_fp32.py beside it, and give the file that it writes"),
    (r"mp_rank_\d+(_\d+)*$", "a Megatron checkpoint, sharded by rank", FROM_RANKS),
    (r"latest_checkpointed_iteration\.txt$", "a folder of Megatron checkpoints",
     "give one of its iter_N folders, or all by `ckptwatch run --dir`"),
    (r"checkpoint-\d+$", "a folder of Hugging Face checkpoints", "give one of its checkpoint-N folders"),
    (r"recipe_state$|recipe_state\.pt$", "a torchtune output folder", "give one of its epoch_N or step_N folders"),
    (r"adapter_config\.json$", "an adapter without its base model", "merge it into the base model first"),
    (r"DONE_\d+$|model_\d{8}\.bin$", "a folder of llm.c checkpoints", "give one of its model_N.bin files"),
    (r".*\.(pt|pth|ckpt)$", "a folder of checkpoint files",
     "give one of its files, or all by `ckptwatch run --dir`"),
)  # fmt: skip


@dataclass
class Folder:
    """A Hugging Face folder. ranges, payloads: where each storage's bytes are; shards: the open weight files.

    unverified: whether a weight file has no checksums. step_source: where the step was read. notes: what is unusual
    about the folder, for a result's note.
    """

    path: str
    config: dict[str, Any]
    state: State
    family: str
    digest: str
    size_bytes: int
    step: int | None
    step_source: str | None = None
    notes: list[str] = field(default_factory=list)
    shards: list[OpenFile] = field(default_factory=list)
    ranges: dict[str, tuple[OpenFile, int, int]] = field(default_factory=dict)
    payloads: dict[str, tuple[OpenFile, Payload]] = field(default_factory=dict)
    unverified: bool = False

    def close(self) -> None:
        for file in self.shards:
            file.close()


def read_folder(
    path: str,
    settings: dict[str, Any] | None = None,
    *,
    needs_config: bool = True,
    report: ReportBytes = lambda done, total: None,
) -> Folder:
    """Understand a Hugging Face folder. settings: `[model] config`, laid over config.json or given in its place.

    needs_config: refuse a folder without either, or of a family that needs a factory. report: bytes hashed, and bytes
    in all, of one file after the other.
    Raises ArchiveError `unsupported` naming any other kind, OSError.
    """
    names = sorted(os.listdir(path))
    weights = _weight_files(path, set(names))
    if not weights or (needs_config and "config.json" not in names and not settings):
        raise _other_kind(path, names, bool(weights))
    if (kind := kind_at(path)) is not None:
        demand_finished(kind)
    own = read_values(os.path.join(path, "config.json")) if "config.json" in names else {}
    if own is None:
        raise ArchiveError("corrupt", "the folder's config.json is no JSON object")
    config = {**own, **(settings or {})}
    trainer = read_values(os.path.join(path, "trainer_state.json")) or {}
    found = step_in(trainer, "lightning", lambda value: value)
    step, source = (found[0], "sidecar:trainer_state.json:global_step") if found else (None, None)
    if step is None and (step := step_of_recipe(path, names)) is not None:
        source = f"sidecar:{RECIPE_STATE}:steps_run"
    notes = notes_of_folder(path, names, weights, config)
    folder = Folder(path, config, State("", {}, {}), "", "", 0, step, source, notes)
    try:
        _read_shards(folder, weights, report)
    except BaseException:
        folder.close()
        raise
    folder.family = family_of(None, folder.state, {"model_type": "unknown", **config}, None)
    if needs_config:
        try:
            refuse_family(folder.family, None, ())
        except ArchiveError:
            folder.close()
            raise
    return folder


def _weight_files(path: str, names: set[str]) -> list[str]:
    """The files with the weights, safetensors first, by the index where there is one."""
    for index, single in (
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
    ):
        if single in names:
            return [single]
        if index in names:
            listed = (read_values(os.path.join(path, index)) or {}).get("weight_map")
            shards = {name for name in listed.values() if isinstance(name, str)} if isinstance(listed, dict) else set()
            if not shards or any("/" in name for name in shards):
                raise ArchiveError("corrupt", f"the folder's {index} is damaged")
            missing = sorted(shards - names)
            if missing:
                raise ArchiveError("corrupt", f"the folder lacks {', '.join(missing[:3])}", incomplete=True)
            return sorted(shards)
    found = sorted(name for name in names if SHARD.fullmatch(name))
    if len({re.sub(r"\d{5}-of", "", name) for name in found}) > 1:
        reason = f"the folder holds shards of several saves and no index: {', '.join(found)[:200]}"
        raise ArchiveError("unsupported", reason, "remove the shards of the older save")
    return found


def _read_shards(folder: Folder, names: list[str], report: ReportBytes) -> None:
    state = hashlib.sha256(b"ckptwatch folder 1\n")
    tensors: dict[str, TensorRef] = {}
    if os.path.exists(config_path := os.path.join(folder.path, "config.json")):
        with OpenFile(config_path) as config:
            state.update(digest_of_bytes(config).encode())
    for number, name in enumerate(names):
        file = OpenFile(os.path.join(folder.path, name), report)
        folder.shards.append(file)
        folder.size_bytes += file.size
        prefix = f"{number}:"
        if name.endswith(".safetensors"):
            part, ranges = read_header(file, prefix)
            folder.unverified = True
            folder.ranges |= ranges
            state.update(digest_of_bytes(file).encode())
        else:
            payload = read_payload(file)
            if payload.legacy is not None:
                raise ArchiveError("unsupported", f"{shown(name)} is in torch's format before 1.6", "save it again")
            folder.payloads[prefix] = (file, payload)
            folder.unverified |= payload.unverified
            shard = choose_state(find_states(payload.root), None).tensors
            part = {k: replace(t, storage=replace(t.storage, key=prefix + t.storage.key)) for k, t in shard.items()}
            state.update(payload.digest.encode())
        if twice := sorted(part.keys() & tensors.keys()):
            reason = (
                f"{len(twice)} tensors are in {shown(name)} and in a shard before it: {shown(', '.join(twice[:3]))}"
            )
            raise ArchiveError("unsupported", reason, "remove the shards of the older save, or save the folder again")
        tensors |= part
    if len(tensors) > LIMITS.entries:
        raise ArchiveError("unsupported", f"the folder holds {len(tensors)} tensors, more than {LIMITS.entries}")
    folder.state = State("", {strip(name): tensor for name, tensor in tensors.items()}, {})
    folder.digest = "sha256:" + state.hexdigest()


def _other_kind(path: str, names: list[str], weights: bool) -> ArchiveError:
    if weights:
        hint = "put the model's config.json beside them, or give it through [model] config or --model-config FILE"
        return ArchiveError("unsupported", "the folder holds weights without a config.json", hint)
    metadata = read_values(os.path.join(path, "metadata.json")) if "metadata.json" in names else None
    if metadata is not None and "is_temporary" in metadata:
        return ArchiveError("unsupported", "it is a levanter checkpoint (TensorStore)", _TO_HF)
    if (refusal := refusal_of_folder(path)) is not None:
        return refusal
    for pattern, what, hint in _MARKERS:
        if any(re.match(pattern, name) for name in names):
            return ArchiveError("unsupported", f"it is {what}", hint)
    hint = "give a checkpoint file, or a Hugging Face folder with config.json and its weights"
    return ArchiveError("unsupported", "it is no checkpoint that is known here", hint)
