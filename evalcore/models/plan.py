"""A family's plan for a checkpoint, made before anything is allocated: the model to build on meta, and the name in the
file of each weight. Owns the checks against shapes; reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.meaning.fields import TYING


class CheckpointError(Exception):
    """A checkpoint cannot be evaluated. kind: corrupt | unsafe | unsupported | shape | superseded | vanished."""

    def __init__(self, kind: str, reason: str, hint: str = "") -> None:
        self.kind = kind
        self.reason = shown(reason, LIMITS.reason_chars)  # parts of it come from the file
        self.hint = shown(hint, LIMITS.reason_chars)
        super().__init__(self.reason)


class NeedsTransformers(CheckpointError):
    """The model type is known here and this variant of it is not, but transformers may build it from a folder."""


class Shaped(Protocol):
    """Anything with a shape and an identity of storage: a reference into the file, or a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class From:
    """Where a parameter's values are: the name in the file, and whether they are stored transposed."""

    key: str
    transposed: bool = False


@dataclass(frozen=True)
class Plan:
    """How to make one model. build is called on the meta device; weights maps each parameter to its tensor in the file.

    context_length: the most positions the model can take, None where there is no bound. tied_head: the head's name in
    the file, which may be there although its values are the embedding's. says_tied: the field of the configuration by
    which it shares them, where the file has a head of its own: its values must then be equal.
    """

    family: str
    build: Callable[[], nn.Module]
    weights: dict[str, From]
    context_length: int | None
    vocab_size: int
    notes: list[str] = field(default_factory=list)
    tied_head: str = "lm_head.weight"
    says_tied: str | None = None


def demand_layers(config_name: str, layers: int, state: Mapping[str, Shaped], pattern: str) -> None:
    """The file must hold exactly the configured number of blocks; checked before any is built."""
    blocks = {int(match[1]) for key in state if (match := re.match(pattern, key)) and len(match[1]) < 8}
    if layers > len(blocks) or blocks != set(range(layers)):
        reason = f"config.{config_name} is {layers}, but the state dict holds {len(blocks)} blocks"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")


def demand_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if tuple(shape) != tuple(expected):
        reason = f"{name} has the shape {list(shape)}; by the configuration it is {list(expected)}"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")


def matrix_shape(state: Mapping[str, Shaped], name: str) -> tuple[int, int]:
    """(rows, columns) of a weight. Raises CheckpointError `shape` where it is none."""
    if name not in state:
        stem = name.removesuffix(".weight")
        instead = [key for key in state if key.startswith((f"{name}_", f"{stem}."))]
        there = f"; there is {', '.join(shown(key) for key in instead[:3])}" if instead else ""
        hint = "save the plain weights, without pruning, quantisation or parametrizations; or set model.factory"
        if not instead:
            hint = "check that the configuration belongs to this checkpoint, or set model.factory"
        raise CheckpointError("shape", f"{name} is missing from the state dict{there}", hint)
    shape = tuple(state[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(
            "shape",
            f"{name} is no matrix: its shape is {list(shape)}",
            "check that the configuration belongs to this checkpoint",
        )
    return shape[0], shape[1]


def padding_notes(vocab_size: int, rows: int) -> list[str]:
    """What to say of a vocabulary that is padded to more rows."""
    return (
        [] if rows == vocab_size else [f"vocabulary of {vocab_size} padded to {rows} rows: the loss is over all rows"]
    )


def heads_of(width: int, heads: int, width_name: str, heads_name: str) -> int:
    """Width of one head. Raises CheckpointError `shape` where the heads do not divide the width."""
    if width % heads:
        reason = f"config.{heads_name} = {heads} does not divide config.{width_name} = {width}"
        raise CheckpointError("shape", reason, f"correct {heads_name} through [model] config or --model-config FILE")
    return width // heads


def tying_field(
    config: Mapping[str, Any], state: Mapping[str, Any], embedding: str, head: str, default: str | None = None
) -> str | None:
    """The field by which the head shares the embedding's weights, where the file has a tensor of its own for it.

    default: the field that is true for this family where the configuration has none.
    """
    if head not in state or state[head] == state.get(embedding):
        return None
    said = [name for name in TYING if config.get(name) is not None]
    true = [name for name in said if str(config[name]).lower() in ("true", "1")]
    return next(iter(true), None) if said else default


def is_tied(state: Mapping[str, Any], embedding: str, head: str, declared: bool = True) -> bool:
    """Whether the head shares the embedding's weights: it is absent, or a view of the same storage.

    declared: whether the configuration allows it to be absent.
    """
    return declared if head not in state else state[head] == state.get(embedding)
