"""Weights that do not stand under their own names: in parts (pruned, normalised), or in a list without names (EMA).

Owns how they are recognised and what to do about them. Never computes a weight from its parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from evalcore.archive.errors import shown
from evalcore.archive.meaning.prefixes import is_copy
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.pickle.values import InertObject, TensorRef

_PARAMETRIZED = re.compile(r"^((?:.*\.)?)parametrizations\.([^.]+)\.original[01]?$")
_PRUNED = (
    "pruned with torch.nn.utils.prune",
    "call torch.nn.utils.prune.remove(module, 'weight') on each pruned module and save again; in the state dict of "
    "this file, for each such name n: s[n] = s.pop(n + '_orig') * s.pop(n + '_mask')",
)
_NORMED = (
    "under torch.nn.utils.weight_norm, as a direction and a length",
    "call torch.nn.utils.remove_weight_norm(module) on each such module of a copy of the model, and save that",
)
_SPECTRAL = (
    "under torch.nn.utils.spectral_norm, as a matrix and the vectors that scale it",
    "call torch.nn.utils.remove_spectral_norm(module) on each such module of a copy of the model, and save that",
)
_REMOVE = (
    "call torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') on each such module of a copy of the "
    "model, and save that"
)
#: name of the kind, what it is, what to do
IN_PARTS = (
    ("prune", *_PRUNED),
    ("weight_norm", *_NORMED),
    ("spectral_norm", *_SPECTRAL),
    ("parametrize", "under a parametrization of torch.nn.utils.parametrize", _REMOVE),
)
_SEARCH_DEPTH = 3


class InParts(NamedTuple):
    """names: of the weights that the file holds in parts. how: the cause. remedy: how to save plain weights."""

    names: list[str]
    how: str
    remedy: str


def weights_in_parts(tensors: Mapping[str, TensorRef]) -> InParts | None:
    """The weights of a state dict that must be computed from several of its tensors; None where there are none."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, tensor in tensors.items():
        if match := _PARAMETRIZED.match(name):
            base, how = match[1] + match[2], f"under a parametrization of torch.nn.utils.parametrize ({shown(name)})"
            if not any(base in names for names in found.values()):
                key = next((key for key in found if key[1] == _REMOVE), (how, _REMOVE))
                found.setdefault(key, []).append(base)
        elif name.endswith("_orig") and _shape(tensors, name, "_mask") == tensor.shape:
            found.setdefault(_PRUNED, []).append(name.removesuffix("_orig"))
        elif name.endswith("_orig") and _shape(tensors, name, "_u") is not None:
            found.setdefault(_SPECTRAL, []).append(name.removesuffix("_orig"))
        elif name.endswith("_g") and _is_length(tensor.shape, _shape(tensors, name, "_v")):
            found.setdefault(_NORMED, []).append(name.removesuffix("_g"))
    for (how, remedy), names in found.items():
        if plain := [name for name in names if name not in tensors]:
            return InParts(plain, how, remedy)
    return None


def weight_lists(root: Any) -> dict[str, int]:
    """Dotted name -> number of tensors, of each list whose name says that it is an average of a model's weights."""
    found: dict[str, int] = {}
    _search(root, "", 0, found)
    return found


def notes_on_weights(root: Any, state: State | None) -> list[str]:
    """What is not evaluated, or cannot be, and why: weights in parts, and averages in lists, with the remedy."""
    parts = weights_in_parts(state.tensors) if state is not None else None
    notes = [f"{described(parts)}: {parts.remedy}"] if parts is not None else []
    return notes + [
        f"not used: {shown(name)}, a list of {count} tensors without names; to evaluate it, save model.state_dict() "
        "after ema.copy_to(model.parameters())"
        for name, count in weight_lists(root).items()
    ]


def described(parts: InParts) -> str:
    """`12 weights stand in the file pruned with ..., first: blocks.0.weight`."""
    count = len(parts.names)
    what = f"{count} weights are stored" if count > 1 else "1 weight is stored"
    return f"{what} {parts.how}: {shown(parts.names[0])}{' ...' * (count > 1)}"


def _shape(tensors: Mapping[str, TensorRef], name: str, ending: str) -> tuple[int, ...] | None:
    other = tensors.get(name.rpartition("_")[0] + ending)
    return other.shape if other is not None else None


def _is_length(length: tuple[int, ...], direction: tuple[int, ...] | None) -> bool:
    """Whether the shapes are those of weight_norm's g and v: one number for each row, or for the whole."""
    if direction is None or len(direction) < 2:
        return False
    alike = len(length) == len(direction) and all(a in (1, b) for a, b in zip(length, direction, strict=True))
    return length == () or (alike and length != direction)


def _search(value: Any, name: str, depth: int, found: dict[str, int]) -> None:
    if isinstance(value, InertObject):
        value = value.fields()
    if isinstance(value, (list, tuple)):
        if len(value) > 1 and is_copy(name) and all(isinstance(item, TensorRef) for item in value):
            found[name] = len(value)
    elif isinstance(value, dict) and depth < _SEARCH_DEPTH and len(value) <= 10_000:
        for key, part in value.items():
            if isinstance(key, str) and len(key) <= 200 and not key.lower().startswith("optim"):
                _search(part, f"{name}.{key}" if name else key, depth + 1, found)
