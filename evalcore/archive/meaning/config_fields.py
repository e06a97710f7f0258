"""The fields of whatever holds a configuration: a mapping, a pickled object, a text of JSON or YAML, W&B's nesting.

Owns their reading as one flat mapping. Decides nothing about which mapping is the model's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evalcore.archive.errors import LIMITS
from evalcore.archive.meaning.sidecars import json_object
from evalcore.archive.meaning.yaml_values import yaml_mappings
from evalcore.archive.pickle.values import InertObject, TensorRef

Resolve = Callable[[Any], Any]
#: W&B's config.yaml: each value under `value`, at times with a description
_WANDB = ({"value"}, {"value", "desc"})
_NUMBERS_MAX = 200


def fields_of(value: Any) -> dict[Any, Any] | None:
    """A mapping, an object's fields, or what a JSON or YAML text spells; None for anything else."""
    if isinstance(value, dict):
        return _without_wandb(value)
    if isinstance(value, str):
        return _fields_of_text(value)
    if not isinstance(value, InertObject):
        return None
    fields = value.fields()
    for inner in ("_content", "__dict__"):  # OmegaConf, pydantic
        if isinstance(fields.get(inner), dict):
            fields = fields[inner]
    if "_val" in fields:  # one of OmegaConf's nodes
        return None
    return {key: _unwrapped(item) for key, item in fields.items()} or None


def with_numbers(values: dict[Any, Any], resolve: Resolve) -> dict[Any, Any]:
    """The mapping with numbers for tensors of one element, where it is no state dict. resolve: reads such a tensor."""
    tensors = [key for key, item in values.items() if isinstance(item, TensorRef) and item.numel == 1]
    if not tensors or len(tensors) > _NUMBERS_MAX:
        return values
    return {**values, **{key: resolve(values[key]) for key in tensors}}


def _fields_of_text(text: str) -> dict[str, Any] | None:
    if len(text) > LIMITS.text_bytes:
        return None
    if text.lstrip()[:1] == "{":
        found = json_object(text)
    else:
        found = yaml_mappings(text) if "\n" in text.strip() and ":" in text else None
    return _without_wandb(found) if found else None


def _without_wandb(values: dict[Any, Any]) -> dict[Any, Any]:
    """`{n_layer: {value: 12}}` as `{n_layer: 12}`, where all entries but W&B's own are such."""
    own = ("wandb_version", "_wandb")
    nested = [item for key, item in values.items() if key not in own]
    if not nested or not all(isinstance(item, dict) and set(item) in _WANDB for item in nested):
        return values
    return {key: item["value"] for key, item in values.items() if key not in own}


def _unwrapped(value: Any) -> Any:
    """The value in one of OmegaConf's nodes, a nested mapping as a dict; any other as it is."""
    if isinstance(value, InertObject) and value.class_name.startswith("omegaconf."):
        fields = value.fields()
        return fields["_val"] if "_val" in fields else fields_of(value) or value
    return value
