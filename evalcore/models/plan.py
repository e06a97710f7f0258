"""What a family says about a checkpoint before anything is allocated: a model to build on meta, and where each of its
weights stands in the file. Owns the checks of configuration values; reads no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn


class CheckpointError(Exception):
    """A checkpoint cannot be evaluated. kind: corrupt | unsafe | unsupported | shape | superseded."""

    def __init__(self, kind: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.hint = hint


class Shaped(Protocol):
    """Anything with a shape and an identity of storage: a reference into the file, or a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class From:
    """Where a parameter's values stand: the name in the file, and whether they stand there transposed."""

    key: str
    transposed: bool = False


@dataclass(frozen=True)
class Plan:
    """How to make one model. build is called on the meta device; weights maps each parameter to its place.

    context_length: the most positions the model can take, None where there is no bound.
    """

    family: str
    build: Callable[[], nn.Module]
    weights: dict[str, From]
    context_length: int | None
    vocab_size: int
    notes: list[str] = field(default_factory=list)


_MISSING = object()


def whole(config: Mapping[str, Any], *names: str, low: int = 1, high: int = 1 << 24, default: Any = _MISSING) -> int:
    """The whole number under the first of the names present. Raises CheckpointError where it is none or too large."""
    for name in names:
        if name not in config or (config[name] is None and default is not _MISSING):
            continue
        value = config[name]
        if type(value) is float and math.isfinite(value) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            reason = f"config.{name} is {str(value)[:40]!r}, not a whole number from {low} to {high}"
            raise CheckpointError("unsupported", reason, "correct it through [model] config")
        return value
    if default is not _MISSING:
        return default
    raise CheckpointError(
        "unsupported", f"the configuration lacks {' or '.join(names)}", "give it through [model] config"
    )


def number(config: Mapping[str, Any], name: str, default: float) -> float:
    """The finite positive number under the name."""
    value = config.get(name, default)
    value = default if value is None else value
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise CheckpointError("unsupported", f"config.{name} is {str(value)[:40]!r}, not a positive number")
    return float(value)


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name, default)
    value = default if value is None else value
    if value not in (True, False, 0, 1):
        raise CheckpointError("unsupported", f"config.{name} is {str(value)[:40]!r}, neither true nor false")
    return bool(value)


def demand_layers(config_name: str, layers: int, state: Mapping[str, Shaped], pattern: str) -> None:
    """The file must hold exactly the blocks that the configuration speaks of; checked before any is built."""
    found = {int(match[1]) for key in state if (match := re.match(pattern, key)) and len(match[1]) < 8}
    if layers > len(found) or found != set(range(layers)):
        reason = f"config.{config_name} is {layers}, but the state dict holds {len(found)} blocks"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")


def demand_shape(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if tuple(found) != tuple(expected):
        reason = f"{what} has the shape {list(found)}; by the configuration it is {list(expected)}"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")


def heads_of(width: int, heads: int, width_name: str, heads_name: str) -> int:
    """Width of one head. Raises CheckpointError `shape` where the heads do not divide the width."""
    if width % heads:
        raise CheckpointError("shape", f"config.{heads_name} = {heads} does not divide config.{width_name} = {width}")
    return width // heads


def is_tied(state: Mapping[str, Any], embedding: str, head: str, declared: bool = True) -> bool:
    """Whether the head shares the embedding's weights: it is left out, or a view of the very same storage.

    declared: whether the configuration allows it to be left out.
    """
    return declared if head not in state else state[head] == state.get(embedding)
