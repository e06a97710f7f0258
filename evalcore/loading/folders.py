"""A Hugging Face folder as a model ready to evaluate: our own families, any other type through transformers.

Runs no code from the folder (trust_remote_code stays off). Which files count is decided in archive/meaning/folders.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from evalcore.archive.meaning.config import FoundConfig
from evalcore.archive.meaning.fields import unknown_fields
from evalcore.archive.meaning.folders import Folder, read_folder
from evalcore.archive.meaning.state_dicts import State, is_derived
from evalcore.archive.payload import Payload
from evalcore.archive.pickle.values import StorageRef
from evalcore.archive.reading import Reading
from evalcore.archive.summary import Summary
from evalcore.loading.content import ContentDigest
from evalcore.loading.planning import demand_known_family
from evalcore.loading.reading import Opened, OpenOptions, bytes_needed, counted, without_checksums
from evalcore.loading.weights import Passed, RangeRecords, Records, ZipRecords, read_tensors
from evalcore.messages import ModelSpec
from evalcore.models import demand_unquantised, factory
from evalcore.models.plan import CheckpointError
from evalcore.models.values import listed


@dataclass(frozen=True)
class ShardRecords:
    """Storages of several weight files; a key begins with the number of its file."""

    plain: RangeRecords
    zips: dict[str, ZipRecords]
    content: ContentDigest

    def read(self, storage: StorageRef, buffer: memoryview) -> None:
        prefix, _, key = storage.key.partition(":")
        part = self.zips.get(prefix + ":")
        if part is None:
            self.plain.read(storage, buffer)
        else:
            part.read(replace(storage, key=key), buffer)
        self.content.add(storage.key, buffer)

    def check(self, wanted: Callable[[str], bool]) -> int:
        return sum(part.check(partial(_wanted_in, prefix, wanted)) for prefix, part in self.zips.items())


def _wanted_in(prefix: str, wanted: Callable[[str], bool], key: str) -> bool:
    return wanted(prefix + key)


def open_hf_folder(path: str, options: OpenOptions) -> Opened:
    """Understand a Hugging Face folder. Raises CheckpointError, ArchiveError, OSError."""
    spec = options.spec
    demand_known_family(spec)
    folder = read_folder(path, spec.config, needs_config=spec.factory is None)
    try:
        if options.expect_digest not in (None, folder.digest):
            raise CheckpointError("superseded", "the folder holds another version than when it was registered")
        if options.require_zip and folder.unverified:
            raise without_checksums("the folder's weight file", "safetensors" if folder.ranges else "zip")
        content = ContentDigest(options.wants_content)
        content.add("config.json", json.dumps(folder.config, sort_keys=True, default=str).encode())
        passed = counted(options.report, bytes_needed(folder.state))
        return Opened(
            _reading(folder),
            _summary(folder),
            folder.state,
            _records(folder, content, passed),
            content,
            lambda: folder.shards,
            lambda: any(file.is_rewritten() for file in folder.shards),
            lambda: [*folder.notes, *(["unverified: the weights carry no checksums"] * folder.unverified)],
            partial(_through_transformers, folder, spec),
        )
    except BaseException:
        folder.close()
        raise


def _reading(folder: Folder) -> Reading:
    payload = Payload("hf-folder", {}, (), len(folder.state.tensors), folder.digest, unverified=False)
    config = FoundConfig(folder.config, "sidecar:config.json")
    return Reading(payload, {"": folder.state}, folder.state, None, folder.family, config, [])


def _summary(folder: Folder) -> Summary:
    return Summary("hf-folder", folder.digest, folder.size_bytes, folder.step, folder.step_source, folder.family)


def _records(folder: Folder, content: ContentDigest, passed: Passed) -> Records:
    zips = {
        prefix: ZipRecords(file, payload.directory, passed)
        for prefix, (file, payload) in folder.payloads.items()
        if payload.directory is not None
    }
    return ShardRecords(RangeRecords(folder.ranges, passed), zips, content)


def _through_transformers(
    folder: Folder, spec: ModelSpec, records: Records, state: State, device: str
) -> tuple[nn.Module, int]:
    """A model type without a family here: built by transformers from its configuration, filled by our reader."""
    model_type = str(folder.config.get("model_type"))[:40]
    demand_unquantised(folder.config)
    try:
        import transformers
    except ImportError:
        reason = f"a Hugging Face model of the type {model_type} needs transformers"
        raise CheckpointError("unsupported", reason, "in a clone of ckptwatch: pip install '.[hf]'") from None
    try:
        more = {name: value for name, value in (spec.config or {}).items() if name != "family"}
        config = transformers.AutoConfig.from_pretrained(
            folder.path, trust_remote_code=False, local_files_only=True, **more
        )
        config.use_cache = False  # keys and values kept for a next token take memory, and some types fail at it
        with torch.device("meta"):
            meta_model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        if "AutoModelForCausalLM" in str(error):  # and a list of the hundreds of types that it has
            reason = f"transformers {transformers.__version__} has no causal language model of the type {model_type}"
            hint = "give the folder of its language model alone, or model.factory"
            raise CheckpointError("unsupported", reason, hint) from error
        reason = f"transformers {transformers.__version__} cannot build a {model_type} model: {str(error)[:300]}"
        raise CheckpointError("unsupported", reason, "check config.json, or give model.factory") from error
    described = sum(p.numel() for p in meta_model.parameters()) * 4
    if described > 8 * folder.size_bytes + (64 << 20):
        reason = f"config.json describes a model of {described} bytes, and its weights have {folder.size_bytes}"
        raise CheckpointError("shape", reason, "check that config.json belongs to these weights")
    tensors, read_bytes = read_tensors(records, state.tensors)
    try:
        # float32: the default is the dtype that config.json names, and weights of float32 would be rounded to it
        inner, report = type(meta_model).from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, dtype=torch.float32
        )
    except RuntimeError as error:
        reason = f"the weights do not fit config.json: {' '.join(str(error).split())[:300]}"
        raise CheckpointError("shape", reason, "check that config.json belongs to these weights") from error
    _demand_all(report)
    wrapped = factory.wrap(inner.float().to(device), folder.config, device)
    wrapped.notes.extend(_unread_notes(config, folder.config))
    return wrapped, read_bytes


def _unread_notes(config: Any, values: dict[str, Any]) -> list[str]:
    """A note of the fields of config.json that are kept as they are by a configuration class that does not know them.

    Fields of older versions are not among them: the class translates those and keeps them not.
    """
    cls = type(config)
    fields = unknown_fields(values, {*cls().to_dict(), *cls.attribute_map}, open_ended=True)
    names = [name for name in fields.refused + fields.noted if name in vars(config)]
    return [f"unknown to transformers' {cls.__name__} and not used: {listed(values, names)}"] if names else []


def _demand_all(report: dict[str, Any]) -> None:
    """Refuse both: transformers fills missing weights with random numbers, and drops unknown ones."""
    for field, what in (
        ("missing_keys", "missing"),
        ("mismatched_keys", "of the wrong shape"),
        ("unexpected_keys", "unknown"),
    ):
        names = sorted(str(name) for name in report.get(field, ()) if not is_derived(str(name)))
        if names:
            reason = f"the weights do not fit config.json; {len(names)} {what}: {', '.join(names[:5])}"
            raise CheckpointError("shape", reason, "check that config.json belongs to these weights")
