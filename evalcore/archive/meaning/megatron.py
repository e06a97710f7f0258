"""Megatron-LM's checkpoints: which form a folder or file is, and the words of its refusal.

Reads a small JSON file and a listing. Reads no weights, and computes no model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.meaning.sidecars import read_values

#: Source of the names: NVIDIA/Megatron-LM d98e8a6, megatron/core/dist_checkpointing and megatron/training/arguments.py.
_CONFIG = "metadata.json"
_OBJECT = re.compile(r"(?:common_state|.*\._extra_state)/shard_\d+_\d+")
_SIZES = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size")
_FACTORY = "the factory under Megatron-LM in docs/how-to/other-trainers.md"
TO_ONE_RANK = (
    "run the training's script on one rank with its flags, --load FOLDER --tensor-model-parallel-size 1"
    " --pipeline-model-parallel-size 1 --no-load-optim --no-load-rng --ckpt-convert-format torch"
    f" --ckpt-convert-save DIR, and evaluate DIR/torch/iter_N with {_FACTORY}"
)
#: `torch` files of several ranks are loaded only with the sizes that they were saved with
FROM_RANKS = (
    "run the training's script as before with --load FOLDER --ckpt-convert-format torch_dist --ckpt-convert-save DIR;"
    " then convert that on one rank with --ckpt-convert-format torch, and evaluate the result with"
    f" {_FACTORY}; or export it to a Hugging Face folder"
)
ONE_RANK = (
    "a Megatron checkpoint, whose layout of the weights needs a factory",
    f"save {_FACTORY} as src/megatron_factory.py, and add --model-factory megatron_factory:build --python-path src",
)


def refusal_of_folder(folder: str, objects: Iterable[str] = ()) -> ArchiveError | None:
    """The refusal of a folder of Megatron's torch_dist, or of another of its sharded formats; None for other folders.

    objects: the names of the objects in the folder's DCP index, where it has one.
    """
    backend = (read_values(os.path.join(folder, _CONFIG)) or {}).get("sharded_backend")
    if backend is None and not any(map(_OBJECT.fullmatch, objects)):
        return None
    which = shown(str(backend), 40) if backend is not None else "torch_dist"
    reason = f"it is a Megatron checkpoint of the sharded format {which}, which is not read here"
    return ArchiveError("unsupported", reason, TO_ONE_RANK)


def refuse_part(trainer: str | None, config: dict[str, Any] | None) -> None:
    """Raise ArchiveError where the file holds one rank's part of a model that Megatron's arguments divide."""
    if trainer != "megatron":
        return
    divided = [f"{name} is {(config or {})[name]!r}" for name in _SIZES if (config or {}).get(name, 1) not in (1, None)]
    if divided:
        reason = f"the file is one rank's part of a Megatron checkpoint: {shown(', '.join(divided))}"
        raise ArchiveError("unsupported", reason, FROM_RANKS)
