"""Which trainer wrote a payload, by its top keys alone; and what to do with those that cannot be read as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evalcore.archive.errors import ArchiveError
from evalcore.archive.meaning.megatron import ONE_RANK
from evalcore.archive.meaning.state_dicts import parts_in
from evalcore.archive.pickle.values import InertObject, TensorRef

#: payload families that no evaluation can read as they are: what they are, and what to do
REFUSALS = {
    "deepspeed": ("a DeepSpeed checkpoint", "consolidate it with the zero_to_fp32.py beside it, and give that file"),
    "megatron": ONE_RANK,
    "modded-nanogpt": ("a modded-nanogpt checkpoint, whose model differs with each record", "give model.factory"),
    "composer": ("a Composer checkpoint", "export it to a Hugging Face folder, or give model.factory"),
    "torchtune-recipe": ("a torchtune recipe state: an optimizer without a model", "give the model's folder"),
    "torchtune": (
        "a state dict by torchtune's own names, which several models share",
        "save it with FullModelHFCheckpointer, or give model.factory",
    ),
    "optimizer": ("an optimizer's state, without a model", "give the model's checkpoint"),
    "lora": (
        "a state dict with LoRA adapters (low-rank updates), which stand apart from the weights that they change",
        "merge them into the base model first (peft: merge_and_unload()) and save that, or give model.factory",
    ),
    "fsdp-flat": (
        "one rank's share of an FSDP model, flattened",
        "save a full state dict (StateDictType.FULL_STATE_DICT), or a DCP folder",
    ),
    "dtensor": (
        "one shard of a distributed checkpoint",
        "save a full state dict, or convert it with dcp_to_torch_save",
    ),
}


_SCHEDULE_FREE = (
    "the optimizer is schedule-free and was saved in its train mode: these are the weights of training, not the"
    " averaged ones that optimizer.eval() gives before validation"
)


def trainer_of(root: Any, names: Iterable[str]) -> str | None:
    """The trainer by the payload's top keys, the most specific first; None where it is none of those known."""
    if any("DTensor" in name or "ShardedTensor" in name for name in names):
        return "dtensor"
    if not isinstance(root, dict):
        return None
    keys = {key for key in root if isinstance(key, str)}
    if {"model_args", "iter_num"} <= keys:
        arguments = root["model_args"]
        return (
            "llama2c"
            if isinstance(arguments, dict) and {"dim", "n_heads", "max_seq_len"} <= set(arguments)
            else "nanogpt"
        )
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


def optimizer_notes(root: Any) -> list[str]:
    """A note of an optimizer whose weights in the file are not those that its trainer validates with."""
    for name, value in root.items() if isinstance(root, dict) else ():
        if not isinstance(name, str) or not name.startswith("optim"):
            continue
        for optimizer in value if isinstance(value, (list, tuple)) else (value,):
            groups = optimizer.get("param_groups") if isinstance(optimizer, dict) else None
            for group in groups if isinstance(groups, list) else ():
                if isinstance(group, dict) and group.get("train_mode") is True:
                    return [_SCHEDULE_FREE]
    return []


def refuse_family(family: str, trainer: str | None, families: Iterable[str]) -> None:
    """Raise ArchiveError `unsupported` where family or trainer is known and cannot be evaluated as it is.

    families: those that are evaluated, or asked about; one of them stands for itself, whoever wrote the file.
    """
    if family in families and trainer in (None, "deepspeed", "litgpt", "composer"):
        return
    name = family if family in REFUSALS else trainer if trainer in REFUSALS else None
    if name is not None:
        what, hint = REFUSALS[name]
        raise ArchiveError("unsupported", f"the file is {what}", hint)


def refuse_list(root: Any) -> None:
    """Raise ArchiveError where the model is a list of state dicts, one for each part of a pipeline."""
    parts = parts_in(root)
    if parts is not None:
        key, number = parts
        reason = f"{key!r} is a list of {number} state dicts, the parts of a pipeline or of several models"
        hint = "save one state dict that holds all parts, each tensor under its name in the whole model"
        raise ArchiveError("unsupported", reason, hint)


def refuse_parts(root: Any, trainer: str | None) -> None:
    """Raise ArchiveError where DeepSpeed kept only a part of the model in this file: ZeRO-3, or tensor parallel."""
    if trainer != "deepspeed" or not isinstance(root, dict):
        return
    settings = root.get("ds_config")
    settings = settings.fields() if isinstance(settings, InertObject) else settings
    zero = settings.get("zero_optimization") if isinstance(settings, dict) else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    module = root.get("module")
    parameters = [t for t in module.values() if isinstance(t, TensorRef)] if isinstance(module, dict) else []
    ranks = root.get("mp_world_size")
    if stage == 3 or (type(ranks) is int and ranks > 1) or not parameters or all(t.numel == 0 for t in parameters):
        what, hint = REFUSALS["deepspeed"]
        part = "ZeRO stage 3" if stage == 3 else "one rank"
        raise ArchiveError("unsupported", f"the file is {what} that holds a part of the model ({part})", hint)
