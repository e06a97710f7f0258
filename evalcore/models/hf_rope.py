"""Rotary scaling as transformers' configurations name it, for the tables that rotary.py makes.

Source: huggingface/transformers modeling_rope_utils.py. A type that is not known is refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evalcore.models.plan import CheckpointError, NeedsTransformers
from evalcore.models.values import flag, number, refuse_unknown_in

_LLAMA3 = {
    "factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor",
    "original": "original_max_position_embeddings",
}  # fmt: skip
#: of every type; those of longrope lead to transformers
_KNOWN = {
    "rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
    "original_max_position_embeddings", "truncate", "attention_factor", "mscale", "mscale_all_dim",
    "partial_rotary_factor", "short_factor", "long_factor", "finetuned", "max_position_embeddings",
}  # fmt: skip
_OTHER = "give it as a Hugging Face folder, or set model.factory"


def rope_of(config: Mapping[str, Any], theta: float, kind: str | None = None) -> tuple[tuple[str, Any], ...]:
    """`rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before).

    theta: the family's default. kind: the layers whose entry of `rope_parameters` counts, where it has one for each.
    """
    given, older = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    if given and older and given != older:
        reason = "config.rope_parameters and config.rope_scaling differ"
        raise NeedsTransformers("unsupported", reason, f"keep the one that was trained with; or {_OTHER}")
    given = given or older
    if isinstance(given, Mapping) and kind is not None and isinstance(given.get(kind), Mapping):
        given = given[kind]
    elif kind is not None and config.get("rope_parameters"):
        raise NeedsTransformers("unsupported", f"config.rope_parameters has no entry for {kind}", _OTHER)
    if not isinstance(given, Mapping):
        raise CheckpointError("unsupported", f"config.rope_scaling is {str(given)[:40]!r}, not a mapping")
    _refuse_two_thetas(config, given)
    refuse_unknown_in("rope_parameters" if config.get("rope_parameters") else "rope_scaling", given, _KNOWN)
    scaling = given.get("rope_type", given.get("type", "default"))
    rope: dict[str, Any] = {"type": scaling, "theta": number({**config, **given}, "rope_theta", theta)}
    if number(given, "partial_rotary_factor", 1.0) != 1:
        raise NeedsTransformers("unsupported", f"partial_rotary_factor = {given['partial_rotary_factor']}", _OTHER)
    if scaling == "linear":
        rope["factor"] = number(given, "factor", 1.0)
    elif scaling == "llama3":
        if missing := [name for name in _LLAMA3.values() if given.get(name) is None]:
            raise NeedsTransformers("unsupported", f"llama3 rotary scaling without {', '.join(missing)}", _OTHER)
        rope |= {ours: number(given, name, 1.0) for ours, name in _LLAMA3.items()}
    elif scaling == "yarn":
        rope |= _yarn(config, given)
    elif scaling == "dynamic":  # changes nothing up to max_position_embeddings, and windows are no longer than that
        rope["type"] = "default"
    elif scaling != "default":
        raise NeedsTransformers("unsupported", f"rotary scaling of the type {str(scaling)[:40]!r}", _OTHER)
    return tuple(rope.items())


def _refuse_two_thetas(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise CheckpointError where the base stands twice with different values: transformers 4 reads the field at the
    top, transformers 5 the one in rope_parameters."""
    top, inside = config.get("rope_theta"), given.get("rope_theta")
    if top is None or inside is None or number(config, "rope_theta", 1.0) == number(given, "rope_theta", 1.0):
        return
    reason = f"config.rope_theta is {top}, and in rope_parameters it is {inside}"
    hint = (
        f"say rope_theta = {inside} in [model] config where that is right; else give rope_parameters with {top} there"
    )
    raise CheckpointError("unsupported", reason, hint)


def _yarn(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    factor = number(given, "factor", 1.0)
    positions = number(config, "max_position_embeddings", 2048)
    return {
        "factor": factor,
        "beta_fast": number(given, "beta_fast", 32.0),
        "beta_slow": number(given, "beta_slow", 1.0),
        "original": number(given, "original_max_position_embeddings", positions),
        "truncate": flag(given, "truncate", True),
        "attention_factor": _attention_factor(given, factor),
    }


def _attention_factor(given: Mapping[str, Any], factor: float) -> float:
    if given.get("attention_factor") is not None:
        return number(given, "attention_factor", 1.0)
    if given.get("mscale") and given.get("mscale_all_dim"):
        return _mscale(factor, number(given, "mscale", 1.0)) / _mscale(factor, number(given, "mscale_all_dim", 1.0))
    return _mscale(factor, 1.0)


def _mscale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0
