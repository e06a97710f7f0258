"""Which checkpoint a folder is, by the names in it: its kind, the files that make up its version, what is missing yet.

Reads listings and stats, and opens nothing. Files of a recognised folder are never checkpoints of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from evalcore.archive.errors import ArchiveError

#: Files that tell how the model is built or how text becomes its tokens.
_DESCRIBING = (
    "config.json", "model_config.json", "model_config.yaml", "config.yaml", "hparams.yaml", "params.json",
    "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip
_HF_WEIGHTS = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
)  # fmt: skip
#: `ft-` is torchtune's until its version 0.5, which names torch's files like those of safetensors.
SHARD = re.compile(r"(?:ft-)?(?:model|pytorch_model)-(\d{5})-of-(\d{5})\.(?:safetensors|bin)")
#: The Trainer of transformers writes the weights, its arguments, the optimizer's state, the random state, and
#: trainer_state.json last; with the arguments alone it was told to save the model alone.
_ARGUMENTS, _LAST = "training_args.bin", "trainer_state.json"
_TRAINER = re.compile(r"optimizer\.(?:pt|bin)|scheduler\.pt|scaler\.pt")
_RANDOM = re.compile(r"rng_state(?:_\d+)?\.pth")
#: Accelerate's save_state writes the weights, the optimizer's state and the random states, in this order.
_ACCELERATE = re.compile(r"optimizer(?:_\d+)?\.bin|scheduler(?:_\d+)?\.bin|sampler(?:_\d+)?\.bin")
_RANDOM_OF_ACCELERATE = re.compile(r"random_states_\d+\.pkl")
#: A trainer's own state, of which no model can be made.
_STATE = re.compile(
    r"(?:optimizer|scheduler|optim|scaler|train|distrib_optim|recipe_state)\.(?:pt|pth|bin)|.*optim_states\.pt"
)
#: Folders in a checkpoint's folder that hold a DCP checkpoint: OLMo-core's and Accelerate's.
_DCP_INSIDE = ("model_and_optim", "pytorch_model_fsdp_0")
_OF_ONE_STEP = re.compile(
    r"(?:global[-_]?step|step|steps|iter|iteration|checkpoint|ckpt|epoch|ba|ep)[-_=]?\d+(?:[-_].*)?|\d{5,12}"
)
#: Names of the one file with the model in a folder of one step; FSDP's full state dict among them.
_MAIN = (
    "pytorch_model_fsdp.bin", "consolidated.pth", "consolidated.00.pth", "full_state_dict.pt", "model_state_dict.pt",
    "model.pt", "model.pth", "model.ckpt", "model.bin", "checkpoint.pt", "checkpoint.pth", "ckpt.pt", "state_dict.pt",
)  # fmt: skip


@dataclass(frozen=True)
class FolderKind:
    """A recognised folder. label: for people. members: files, relative to it, whose change makes another version.

    weights: those of them with weights. main: the one file that holds the model, where one file does. missing: what
    its writer has not written yet, by the names alone.
    """

    name: str
    label: str
    members: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    main: str = ""
    missing: str | None = None


def recognise(
    folder: str, names: Collection[str], list_inside: Callable[[str], Collection[str]], *, chosen: bool = False
) -> FolderKind | None:
    """The kind of the folder with this name and these entries; None where it is no checkpoint.

    list_inside: the names in a folder below it; may raise OSError. chosen: the user gave it as a checkpoint. Otherwise
    a folder with one file of a common name, such as model.pt, counts only where it is named after a step.
    """
    names = set(names)
    kind = (
        _meta(names)
        or _hugging_face(names)
        or _dcp(names, list_inside)
        or _litgpt(names)
        or _deepspeed(names)
        or _megatron(names, list_inside)
        or _refused(names)
        or _unsharded(names)
        or _of_one_file(names, folder, chosen)
    )
    if kind is None:
        return None
    describing = tuple(name for name in _DESCRIBING if name in names)
    return replace(kind, members=tuple(dict.fromkeys((*kind.weights, *kind.members, *describing))))


def holds_state_alone(folder: str, names: Collection[str]) -> bool:
    """Whether a folder that is no checkpoint is named after a step and holds an optimizer's state."""
    return _OF_ONE_STEP.fullmatch(folder.lower()) is not None and any(map(_STATE.fullmatch, names))


def kind_at(path: str) -> FolderKind | None:
    """The same for a folder on disk that the user gave as a checkpoint. Raises OSError."""
    name = os.path.basename(os.path.abspath(path))
    return recognise(name, os.listdir(path), lambda inside: os.listdir(os.path.join(path, inside)), chosen=True)


def version_of(path: str) -> tuple[int, int, int]:
    """(size in bytes, mtime_ns, ctime_ns) of a checkpoint, folder or file. Raises OSError."""
    kind = kind_at(path) if os.path.isdir(path) else None
    members = kind.members if kind is not None else ()
    return version_from(os.stat(path), [os.stat(os.path.join(path, name)) for name in members])


def version_from(folder: os.stat_result, members: Sequence[os.stat_result]) -> tuple[int, int, int]:
    """The sum of the members' sizes, and the newest of their times: neither a rename nor a file beside them counts."""
    stats = members or [folder]
    newest = max(status.st_mtime_ns for status in stats), max(status.st_ctime_ns for status in stats)
    return (sum(status.st_size for status in stats), *newest)


def demand_finished(kind: FolderKind) -> None:
    """Raise ArchiveError, incomplete, where its writer has not written everything yet."""
    if kind.missing is not None:
        reason, hint = (
            f"the {kind.label} folder is not complete: {kind.missing}",
            "wait for its writer, or save it again",
        )
        raise ArchiveError("corrupt", reason, hint, incomplete=True)


def _meta(names: set[str]) -> FolderKind | None:
    """torchtune's folder in Meta's format: one file, named like a shard, with Meta's params.json beside it."""
    shards = [name for name in names if SHARD.fullmatch(name)]
    if len(shards) != 1 or not shards[0].endswith(".bin") or "params.json" not in names or "config.json" in names:
        return None
    return FolderKind("full", "one-file", weights=(shards[0],), main=shards[0])


def _hugging_face(names: set[str]) -> FolderKind | None:
    single = next((name for name in _HF_WEIGHTS if name in names), None)
    shards = sorted(name for name in names if SHARD.fullmatch(name))
    if single is None and not shards:
        return None
    index = single is not None and single.endswith(".index.json")
    weights = tuple(shards) if index or single is None else (single,)
    missing = None
    if single is None:
        wanted = max(int(match.group(2)) for name in shards if (match := SHARD.fullmatch(name)))
        if len(shards) < wanted:
            missing = f"{len(shards)} of {wanted} shards are there, and no index yet"
    missing = missing or _missing_at_the_end(names)
    members = (single,) if index and single is not None else ()
    return FolderKind("hf", "Hugging Face", members, weights, missing=missing)


def _missing_at_the_end(names: set[str]) -> str | None:
    """A script of the user's own may keep an optimizer's state beside the weights, too: nothing is missing there."""

    def has(pattern: re.Pattern[str]) -> bool:
        return any(map(pattern.fullmatch, names))

    if _LAST in names:
        return None
    if has(_RANDOM) or (_ARGUMENTS in names and has(_TRAINER)):
        return f"{_LAST}, which the Trainer writes last, is not there yet"
    if has(_ACCELERATE) and "config.json" not in names and not has(_RANDOM_OF_ACCELERATE):
        return "random_states_0.pkl, which Accelerate writes last, is not there yet"
    return None


def _dcp(names: set[str], list_inside: Callable[[str], Collection[str]]) -> FolderKind | None:
    inside, parts = "", names
    for folder in _DCP_INSIDE:
        if folder in names:
            inside, parts = f"{folder}/", set(list_inside(folder))
            break
    slices = sorted(name for name in parts if name.endswith(".distcp"))
    own_indices = sorted(name for name in parts if re.fullmatch(r"__\d+\.metadata", name))
    if not slices and ".metadata" not in parts and not inside:
        return None
    weights = tuple(inside + name for name in slices)
    if ".metadata" not in parts and not own_indices:
        return FolderKind(
            "dcp", "DCP", (), weights, missing=f"{inside}.metadata, which is written last, is not there yet"
        )
    index = (f"{inside}.metadata",) if ".metadata" in parts else ()
    others = tuple(name for name in names if re.fullmatch(r"train_state_\d+\.json", name))
    missing = None
    if "params.json" in names and not others:  # lingua writes params.json, then its train state
        missing = "train_state_*.json, which lingua writes last, is not there yet"
    return FolderKind("dcp", "DCP", index, weights, missing=missing)


def _litgpt(names: set[str]) -> FolderKind | None:
    if "lit_model.pth" not in names:
        return None
    missing = None if "model_config.yaml" in names else "model_config.yaml, which litgpt writes last, is not there yet"
    return FolderKind("litgpt", "litgpt", weights=("lit_model.pth",), main="lit_model.pth", missing=missing)


def _deepspeed(names: set[str]) -> FolderKind | None:
    states = sorted(name for name in names if re.fullmatch(r"mp_rank_\d+_model_states\.pt", name))
    if not states:
        return None
    return FolderKind("deepspeed", "DeepSpeed", weights=tuple(states), main=states[0] if len(states) == 1 else "")


def _refused(names: set[str]) -> FolderKind | None:
    """Kinds that are recognised, so that their files are no checkpoints, and refused when they are read."""
    for pattern, label in (
        (r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt", "DeepSpeed ZeRO-3"),
        (r"adapter_model\.(?:safetensors|bin)", "adapter"),
    ):
        found = sorted(name for name in names if re.fullmatch(pattern, name))
        if found:
            return FolderKind("refused", label, weights=tuple(found))
    return None


def _megatron(names: set[str], list_inside: Callable[[str], Collection[str]]) -> FolderKind | None:
    """One iteration: a file where one rank holds the whole model, refused where several ranks share it."""
    ranks = sorted(name for name in names if re.fullmatch(r"mp_rank_\d+(?:_\d+)*", name))
    if len(ranks) != 1:  # of its older sharded formats, common.pt is no checkpoint of its own
        return FolderKind("refused", "Megatron") if ranks or {"common.pt", "metadata.json"} <= names else None
    if "model_optim_rng.pt" not in list_inside(ranks[0]):
        return FolderKind("full", "Megatron", missing=f"{ranks[0]}/model_optim_rng.pt is not there yet")
    return FolderKind("full", "Megatron", weights=(file := f"{ranks[0]}/model_optim_rng.pt",), main=file)


def _unsharded(names: set[str]) -> FolderKind | None:
    if not ({"model.pt", "config.yaml"} <= names and names & {"train.pt", "optim.pt", "other.pt"}):
        return None
    return FolderKind("olmo", "OLMo", weights=("model.pt",), main="model.pt")


def _of_one_file(names: set[str], folder: str, chosen: bool) -> FolderKind | None:
    found = [name for name in _MAIN if name in names]
    if len(found) != 1 or (found[0] == "consolidated.00.pth" and "consolidated.01.pth" in names):
        return None
    alone = chosen and not any(name.endswith((".pt", ".pth", ".ckpt", ".bin")) for name in names - {found[0]})
    if not (alone or _OF_ONE_STEP.fullmatch(folder.lower())):
        return None
    return FolderKind("full", "one-file", weights=(found[0],), main=found[0])
