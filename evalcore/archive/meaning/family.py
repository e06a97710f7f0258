"""Which trainer wrote a payload and which model family it holds, by the keys alone. FORMATS: one row per family."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.meaning.state_dicts import State

_CONSOLIDATE = "merge the shards into one state dict first"
#: payload families that no evaluation can read as they are: what they are, and what to do
REFUSALS = {
    "deepspeed": ("a DeepSpeed checkpoint", "consolidate it with the zero_to_fp32.py beside it, and give that file"),
    "megatron": ("a Megatron checkpoint, one file per tensor and pipeline rank", "convert it to a Hugging Face folder"),
    "litgpt": ("a litgpt checkpoint", "convert it with `litgpt convert_from_litgpt`, or give model.factory"),
    "modded-nanogpt": ("a modded-nanogpt checkpoint, whose model differs with each record", "give model.factory"),
    "nanochat": ("a nanochat checkpoint", "give model.factory: a function of your own that builds nanochat's GPT"),
    "composer": ("a Composer checkpoint", "export it to a Hugging Face folder, or give model.factory"),
    "torchtune-recipe": ("a torchtune recipe state: an optimizer without a model", "give the model's folder"),
    "optimizer": ("an optimizer's state, without a model", "give the model's checkpoint"),
    "dtensor": (
        "one shard of a distributed checkpoint",
        "save a full state dict, or convert it with dcp_to_torch_save",
    ),
}


def trainer_of(root: Any, names: Iterable[str]) -> str | None:
    """The trainer by the payload's top keys, the most specific first; None where it is none of those known."""
    if any("DTensor" in name or "ShardedTensor" in name for name in names):
        return "dtensor"
    if not isinstance(root, dict):
        return None
    keys = {key for key in root if isinstance(key, str)}
    if {"model_args", "iter_num"} <= keys:
        return "nanogpt"
    if {"args", "checkpoint_version", "iteration"} <= keys:
        return "megatron"
    if ({"module", "global_steps"} <= keys) or "ds_version" in keys or "param_shapes" in keys:
        return "deepspeed"
    if "pytorch-lightning_version" in keys or {"state_dict", "global_step"} <= keys:
        return "lightning"
    if {"step", "code", "optimizers"} <= keys or ({"step", "code", "model"} <= keys and isinstance(root["code"], str)):
        return "modded-nanogpt"
    if {"model", "iter_num", "step_count"} <= keys:
        return "litgpt"
    if {"steps_run", "epochs_run"} <= keys:
        return "torchtune-recipe"
    if isinstance(root.get("state"), dict) and {"model", "timestamp"} <= set(root["state"]):
        return "composer"
    if keys and keys <= {"state", "param_groups"}:
        return "optimizer"
    return None


def family_of(trainer: str | None, state: State | None, config: dict[str, Any] | None, cls: str | None) -> str:
    """The model family by the names and shapes in the chosen state dict and the fields of the configuration."""
    keys = state.tensors if state is not None else {}
    config = config or {}
    if state is None:
        return trainer or "unknown"
    if isinstance(config.get("family"), str):
        return shown(config["family"], 40)
    pickled = re.match(r"transformers\.models\.(\w+)\.", cls or "")
    if pickled and "model_type" not in config:  # a class attribute there, so not among the pickled fields
        config = {**config, "model_type": pickled[1]}
    if _has(keys, "position_embedding.weight") and any(".attn.qkv_proj." in key for key in keys):
        return "rosellm"
    if _has(keys, "transformer.wte.weight") and _has(keys, "transformer.wpe.weight"):
        if config.get("model_type") == "gpt2" or _is_conv1d(state):
            return "hf-gpt2"
        if trainer == "nanogpt" or "dropout" in config or "bias" in config or not _has_biases(keys):
            return "nanogpt"
        if cls is not None or "n_embd" in config:
            return "build-nanogpt"
        return "nanogpt-like"
    if _has(keys, "wte.weight") and _has(keys, "wpe.weight"):
        return "hf-gpt2"
    if any(key.endswith("embed_tokens.weight") for key in keys) and any(".self_attn.q_proj." in key for key in keys):
        model_type = config.get("model_type", "llama")
        return "hf-llama" if model_type == "llama" else f"hf-{shown(str(model_type), 40)}"
    if trainer in REFUSALS:
        return str(trainer)
    if any(key.startswith("transformer.h.") and ".attn.c_q." in key for key in keys):
        return "nanochat"
    if any(".attn.qkv." in key or ".attn.attn." in key for key in keys) and "padded_vocab_size" in config:
        return "litgpt"
    if isinstance(config.get("model_type"), str):
        return f"hf-{shown(config['model_type'], 40)}"
    return "lightning" if trainer == "lightning" else "state-dict"


def lift_prefix(state: State) -> State:
    """The state dict without an attribute prefix (`model.`, `gpt.`, `net.`) that all its tensors share.

    Lightning and home-made wrappers add one; it goes only where the rest then looks like a known family.
    """
    known = re.compile(r"^(transformer\.wte|token_embedding|wte|model\.embed_tokens)\.weight$")
    for key in state.tensors:
        prefix, dot, _ = key.partition(".")
        if not dot or not all(k.startswith(prefix + ".") for k in state.tensors):
            return state
        cut = {k[len(prefix) + 1 :]: t for k, t in state.tensors.items()}
        if any(known.match(k) for k in cut) and not any(known.match(k) for k in state.tensors):
            return State(state.name, cut, state.others)
        return state
    return state


def refuse_family(family: str, trainer: str | None) -> None:
    """Raise ArchiveError `unsupported` where the family is known and cannot be evaluated as it is."""
    name = family if family in REFUSALS else trainer if trainer in REFUSALS else None
    if name is not None:
        what, hint = REFUSALS[name]
        raise ArchiveError("unsupported", f"the file is {what}", hint)


def _has(keys: Iterable[str], name: str) -> bool:
    return name in keys


def _has_biases(keys: Iterable[str]) -> bool:
    return any(key.endswith("ln_1.bias") for key in keys)


def _is_conv1d(state: State) -> bool:
    """GPT-2 by transformers keeps its linear weights as (in, out), nanoGPT as (out, in)."""
    for key, tensor in state.tensors.items():
        if key.endswith("attn.c_attn.weight") and len(tensor.shape) == 2:
            return tensor.shape[1] == 3 * tensor.shape[0]
    return False
