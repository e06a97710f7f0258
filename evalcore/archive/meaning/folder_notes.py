"""What is unusual about a Hugging Face folder and does not stop its evaluation: other weights beside those that were
read, the times of its shards, a class of its own. Reads listings and stats, and the step in torchtune's recipe state.
"""

from __future__ import annotations

import os
import re
from typing import Any

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.meaning.step import step_in
from evalcore.archive.payload import read_payload

ADAPTER = "the folder holds an adapter too, which is not applied: the value is that of the whole weights alone"
RECIPE_STATE = "recipe_state.pt"
_ADAPTER = re.compile(r"adapter_config\.json|adapter_model\.(?:safetensors|bin|pt)")
_INDEX = re.compile(r".*\.index\.json")
_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
#: seconds between the files of one save, at most, where they are not written in order
_ONE_SAVE_S = 10.0
_CLASS = re.compile(
    r"(?:fsdp)?(\w+?)(?:forcausallm(?:withvaluehead)?|lmheadmodel|doubleheadsmodel|model|forsequenceclassification|"
    r"fortokenclassification|forquestionanswering|forpretraining|formaskedlm|forconditionalgeneration)"
)
_TORCHTUNE_GEMMA2 = (
    "torchtune's Gemma 2 bounds its last hidden states instead of its logits: computed as transformers' Gemma 2"
)


def notes_of_folder(path: str, names: list[str], read: list[str], config: dict[str, Any]) -> list[str]:
    """Sentences for a result's note. names: of the folder's files; read: those with the weights that were read."""
    notes = [ADAPTER] if any(map(_ADAPTER.fullmatch, names)) else []
    index = next((name for name in names if _INDEX.fullmatch(name)), None)
    notes += _other_weights(path, names, read) + mixed_saves(path, index, read) + _class(config)
    if config.get("model_type") == "gemma2" and RECIPE_STATE in names:
        notes.append(_TORCHTUNE_GEMMA2)
    return notes


def step_of_recipe(path: str, names: list[str]) -> int | None:
    """Steps run, by the recipe state that torchtune writes into the folder of an intermediate checkpoint."""
    if RECIPE_STATE not in names:
        return None
    try:
        with OpenFile(os.path.join(path, RECIPE_STATE)) as file:
            payload = read_payload(file)
            step = step_in(payload.root, None, lambda value: payload.scalar(file, value), planned=False)
    except (ArchiveError, OSError):  # not written yet, or not torchtune's
        return None
    return step[0] if step is not None else None


def _other_weights(path: str, names: list[str], read: list[str]) -> list[str]:
    """Whole weights in another format, which may be of another save."""
    ending = os.path.splitext(read[0])[1]
    others = [name for name in _WHOLE if name in names and name not in read and ending not in name]
    if not others:
        return []
    newest = max(_time(path, name) for name in read)
    newer = [name for name in others if _time(path, name) > newest + _ONE_SAVE_S]
    return [f"also in the folder and not read: {', '.join(others)}" + (", newer than what was read" if newer else "")]


def mixed_saves(path: str, index: str | None, read: list[str]) -> list[str]:
    """An index is written when all files are: one after it belongs to a later save, which was interrupted.

    read: files with weights in the folder `path`.
    """
    if index is None or len(read) < 2:
        return []
    written = _time(path, index)
    after = [name for name in read if _time(path, name) > written + _ONE_SAVE_S]
    if not after or len(after) == len(read):  # downloaded, index first
        return []
    return [
        f"{shown(after[0])} is newer than {index} and other files are older: the folder may mix two saves of which the"
        " later one was interrupted"
    ]


def _class(config: dict[str, Any]) -> list[str]:
    """A class of the trainer's own, whose forward pass nobody here knows."""
    given, model_type = config.get("architectures"), config.get("model_type")
    if not isinstance(given, list) or not given or not isinstance(given[0], str) or not isinstance(model_type, str):
        return []
    known = _CLASS.fullmatch(given[0].lower())
    stem = re.sub(r"[^a-z0-9]", "", known.group(1)) if known is not None else ""
    for name in (model_type, model_type.removesuffix("_text")):
        if sorted(stem) == sorted(re.sub(r"[^a-z0-9]", "", name.lower())):  # HunYuanDenseV1 is of hunyuan_v1_dense
            return []
    return [f"config.architectures names {shown(given[0], 60)}, a class of its own: computed as a plain {model_type}"]


def _time(path: str, name: str) -> float:
    return os.stat(os.path.join(path, name)).st_mtime
