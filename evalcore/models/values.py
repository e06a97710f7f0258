"""Values of a model's configuration: whole numbers, numbers, flags and activations, by any of a field's names.

Owns the checks of single values, and the refusal of fields that a family does not have. Numbers stored as text count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from evalcore.archive.meaning.fields import ACTIVATION, ALWAYS, GPT_PARTS, GPT_SHAPED, SIZES, unknown_fields
from evalcore.models.plan import CheckpointError, NeedsTransformers

_CORRECT = "correct it through [model] config or --model-config FILE"
_MISSING = object()
_ACTIVATIONS = {
    "gelu": "gelu", "gelu_exact": "gelu", "gelu_erf": "gelu", "exact": "gelu", "gelu_none": "gelu",
    "gelu_new": "gelu_tanh", "gelu_tanh": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "newgelu": "gelu_tanh",
    "new_gelu": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_approx": "gelu_tanh", "tanh_gelu": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu",
    "relu2": "relu2", "relu_2": "relu2", "relu^2": "relu2", "relu**2": "relu2", "relu_squared": "relu2",
    "squared_relu": "relu2", "sqrelu": "relu2", "relusquared": "relu2", "squaredrelu": "relu2", "relu_sq": "relu2",
}  # fmt: skip


def whole(config: Mapping[str, Any], *names: str, low: int = 1, high: int = 1 << 24, default: Any = _MISSING) -> int:
    """The whole number under the first of the names present. Raises CheckpointError where it is none or too large."""
    for name in names:
        if name not in config or (config[name] is None and default is not _MISSING):
            continue
        value = config[name]
        if isinstance(value, str) and len(value) < 12 and value.strip().removesuffix(".0").isdecimal():
            value = int(value.strip().removesuffix(".0"))
        if type(value) is float and math.isfinite(value) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            reason = f"config.{name} is {str(value)[:40]!r}, not a whole number from {low} to {high}"
            raise CheckpointError("unsupported", reason, _CORRECT)
        return value
    if default is not _MISSING:
        return default
    reason = f"the configuration lacks {names[0]}"
    raise CheckpointError("unsupported", reason, "give it through [model] config or --model-config FILE")


def whole_list(config: Mapping[str, Any], name: str, length: int, default: int) -> list[int]:
    """The first `length` whole numbers of the list under the name; `default` for each where there is no list."""
    values = config.get(name)
    if values is None:
        return [default] * length
    if not isinstance(values, (list, tuple)) or len(values) < length or any(type(n) not in (int, bool) for n in values):
        reason = f"config.{name} is {str(values)[:40]!r}, not a list of {length} whole numbers or more"
        raise CheckpointError("unsupported", reason, _CORRECT)
    return [int(n) for n in values[:length]]


def choice(config: Mapping[str, Any], name: str, default: str, known: Iterable[str]) -> str:
    """The text under the name. Raises CheckpointError naming field and value where it is none of those known."""
    value = config.get(name)
    value = default if value is None else value
    if value not in tuple(known):
        reason = f"config.{name} is {str(value)[:40]!r}; known are {', '.join(known)}"
        raise CheckpointError("unsupported", reason, _FACTORY)
    return str(value)


def number(config: Mapping[str, Any], name: str, default: float, *, low: float | None = None) -> float:
    """The finite positive number under the name; with `low` any from there on."""
    value: Any = config.get(name)
    value = default if value is None else value
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            pass  # refused below with its text
    if type(value) not in (int, float) or not math.isfinite(value) or _is_below(value, low):
        raise CheckpointError("unsupported", f"config.{name} is {str(value)[:40]!r}, not a positive number", _CORRECT)
    return float(value)


def _is_below(value: float, low: float | None) -> bool:
    return value <= 0 if low is None else value < low


def number_of(config: Mapping[str, Any], names: Iterable[str], default: float) -> float:
    """The number under the one of the names that the configuration has. Raises CheckpointError where two differ."""
    names = tuple(names)
    refuse_two_values(config, names)
    name = next((name for name in names if config.get(name) is not None), None)
    return default if name is None else number(config, name, default)


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if value not in (True, False, 0, 1):
        reason = f"config.{name} is {str(value)[:40]!r}, neither true nor false"
        raise CheckpointError("unsupported", reason, _CORRECT)
    return bool(value)


def activation(config: Mapping[str, Any], default: str) -> str:
    """The activation that the configuration names, by whatever field; `default` where it names none.

    Raises CheckpointError for one that is not known, and where two fields name different ones.
    """
    named: dict[str, str] = {}
    for name in ACTIVATION:
        value = config.get(name)
        if value is None or value is False or value == "":
            continue
        text = str(value).lower().strip("<>").replace("-", "_").rsplit(".", 1)[-1]
        known = _ACTIVATIONS.get(text)
        if known is None:
            reason = f"config.{name} is {str(value)[:40]!r}; known are gelu, gelu_tanh, relu, relu2 and silu"
            raise CheckpointError("unsupported", reason, f"give one of those through [model] config, or {_FACTORY}")
        named[name] = known
    if len(set(named.values())) > 1:
        reason = "the configuration names two activations: " + ", ".join(f"{k} = {config[k]!r:.40}" for k in named)
        raise CheckpointError("unsupported", reason, f"keep the right one through [model] config, or {_FACTORY}")
    return next(iter(named.values()), default)


def activation_of_transformers(config: Mapping[str, Any], field: str, default: str) -> str:
    """The same for a model of transformers, which reads `field` alone; it knows more than there are here."""
    try:
        return activation(config, default)
    except CheckpointError as error:
        if [name for name in ACTIVATION if config.get(name)] != [field]:
            raise
        hint = "give it as a Hugging Face folder, or set model.factory"
        raise NeedsTransformers("unsupported", error.reason, hint) from error


_FACTORY = "set model.factory to a function that builds the model"


def unknown_notes(
    family: str, config: Mapping[str, Any], known: Iterable[str], *, open_ended: bool = False, closed: bool = False
) -> list[str]:
    """Notes of fields that the family does not have and that it does not refuse.

    Raises CheckpointError naming those that may change the forward pass. open_ended: whether a library adds fields of
    its own to the configuration. closed: it holds no other fields.
    """
    unknown = unknown_fields(config, known, open_ended=open_ended, closed=closed)
    if unknown.refused:
        reason = f"the configuration says {listed(config, unknown.refused)}, which a {family} model does not have"
        neutral = _neutral(unknown.refused[0], family)
        hint = f"{_FACTORY}; or, where it changes no forward pass, say {neutral} in [model] config"
        raise CheckpointError("unsupported", reason, hint)
    return [f"unknown to {family} and not used: {listed(config, unknown.noted)}"] if unknown.noted else []


def listed(config: Mapping[str, Any], names: list[str]) -> str:
    """`name = value` of the first five."""
    fields = ", ".join(f"{name[:60]} = {str(config[name])[:40]!r}" for name in names[:5])
    return fields + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def aliases(config: Mapping[str, Any], own: Mapping[str, str]) -> set[str]:
    """Other names of sizes with the value that the family's own name has. own: size -> the family's name."""
    given = {size: config.get(name) for size, name in own.items()}
    return {name for size, value in given.items() for name in SIZES[size] if config.get(name) == value}


def refuse_unknown_in(name: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise CheckpointError where the mapping under `name` has a value under a name that is not known."""
    unknown = [f"{name}.{key}" for key, value in values.items() if key not in set(known) and value is not None]
    if unknown:
        inside = {f"{name}.{key}": value for key, value in values.items()}
        reason = f"the configuration says {listed(inside, unknown)}, which is not known"
        raise CheckpointError("unsupported", reason, f"{_FACTORY}; or give {name} without it in [model] config")


def refuse_two_values(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise CheckpointError where two names of one thing, which no tensor shows, have different values."""
    given = {name: config[name] for name in names if config.get(name) is not None}
    if len({str(value).strip().removesuffix(".0") for value in given.values()}) > 1:
        reason = f"the configuration says {listed(given, list(given))}, which contradict each other"
        same = " and ".join(f"{name} = the right value" for name in given)
        raise CheckpointError("unsupported", reason, f"say {same} in [model] config")


def _neutral(name: str, family: str) -> str:
    """`name = value` by which the user says that the model is as its family is."""
    is_a_part = family in GPT_SHAPED and GPT_PARTS.fullmatch(name) is not None
    return f"{name} = {'true' if name in ALWAYS or is_a_part else 'false'}"
