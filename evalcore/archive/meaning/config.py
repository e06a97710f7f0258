"""Finds a checkpoint's model configuration in the payload: in a mapping, an object, a text, or a pickled module.

Owns the search and the correction by the user's settings. Checks no value.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from evalcore.archive.errors import shown
from evalcore.archive.meaning.config_fields import Resolve, fields_of, with_numbers
from evalcore.archive.meaning.fields import SIZES, architecture_in, size_values, sizes_in
from evalcore.archive.meaning.prefixes import is_copy
from evalcore.archive.pickle.plain import plain
from evalcore.archive.pickle.values import InertObject, TensorRef

#: the usual names, the likeliest first; nanoGPT's `config` is the training script's globals, its `model_args` the model
_KEYS = (
    "model_args", "model_config", "gpt_config", "gpt_cfg", "model_cfg", "model_kwargs", "config", "cfg", "hparams",
    "hyper_parameters", "hyperparameters", "args", "model", "gpt", "arch",
)  # fmt: skip
#: names that trainers give to the model's configuration alone: these stand before all others
_OF_THE_MODEL = _KEYS[:6]
_NEVER = (
    "optim", "scheduler", "lr_scheduler", "loops", "callbacks", "rng", "dataloader", "tokenizer", "ds_config",
    "_modules", "_parameters", "_buffers",
)  # fmt: skip
_DEPTH = 4
_MAPPINGS_MAX = 200
#: a mapping with this number of sizes is a model's configuration, whatever its name
_ENOUGH = 3
#: any other name of a configuration or a trainer's arguments: its fields about architecture count
_CONFIG_NAME = re.compile(
    r"(?:^|_)(?:config|configs|configuration|conf|cfg|args|arguments|hparams?|hps?|settings|options|opts|flags)$", re.I
)
_SCALARS = (bool, int, float, str, type(None))
_LIST_MAX = 1000


@dataclass(frozen=True)
class FoundConfig:
    """values: plain. source: "payload:config" or "sidecar:config.json"; cls: the class it was pickled as, if any.

    sidecar: (name, `sha256:...` of the values) where they come from a file beside the checkpoint.
    conflict: another configuration of this model that differs in what tensors do not show. decides: the fields that,
    given by the user, settle it. notes: what is unusual about the configuration.
    """

    values: dict[str, Any]
    source: str
    cls: str | None = None
    sidecar: tuple[str, str] | None = None
    conflict: str | None = None
    decides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Mapping:
    """One mapping of a payload: its path, values, class, and the sizes that it gives."""

    path: tuple[str, ...]
    values: dict[Any, Any]
    cls: str | None
    sizes: set[str]

    @property
    def shown_path(self) -> str:
        return shown(".".join(self.path), 120) if self.path else "(top level)"

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Complete ones first, a teacher's last, then by the name, then the shallowest."""
        known = [_KEYS.index(name) for name in self.path if name in _KEYS]
        of_another = any(map(is_copy, self.path))
        return len(self.sizes) < _ENOUGH, of_another, min(known, default=len(_KEYS)), len(self.path)


def config_in(root: Any, resolve: Resolve = lambda value: value, *, alone: bool = False) -> FoundConfig | None:
    """The model's configuration anywhere in the payload, completed from other mappings in it.

    resolve: reads a tensor of one element. alone: a mapping that by its name is the model's is not completed.
    """
    everything = list(_mappings(root, resolve))
    candidates = [mapping for mapping in everything if _is_candidate(mapping)]
    if not candidates:
        return None
    best = min(candidates, key=lambda mapping: mapping.rank)
    values = plain(best.values if best.path else _scalars(best.values))
    sources = [best.shown_path]
    whole = alone and (any(name in _OF_THE_MODEL for name in best.path) or len(best.path) > 1)
    for other in everything if not whole else ():
        more = _missing(values, best, other) if other is not best else {}
        if more:
            values |= more
            sources.append(other.shown_path)
    conflict, decides = _conflict(best, candidates)
    return FoundConfig(values, f"payload:{', '.join(sources)}", best.cls, conflict=conflict, decides=decides)


def corrected(config: FoundConfig | None, settings: dict[str, Any] | None) -> FoundConfig | None:
    """The checkpoint's configuration with the fields of the user's `[model] config` replaced or added."""
    if not settings:
        return config
    if config is None:
        return FoundConfig(dict(settings), "settings")
    settled = any(name in settings for name in config.decides)
    conflict = None if settled else config.conflict
    source = f"{config.source}, settings"
    return replace(config, values={**config.values, **settings}, source=source, conflict=conflict)


def values_digest(values: dict[str, Any]) -> str:
    """`sha256:...` of plain values, whatever their order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def nameless_config(root: Any) -> str | None:
    """The class of a configuration that was pickled without the names of its fields: a NamedTuple, a slotted class."""
    for key, value in root.items() if isinstance(root, dict) else ():
        if key in _KEYS and isinstance(value, InertObject) and not fields_of(value):
            values = value.state if isinstance(value.state, (list, tuple)) else value.args
            if isinstance(values, (list, tuple)) and sum(type(item) is int for item in values) >= _ENOUGH:
                return shown(value.class_name, 120)
    return None


def _mappings(root: Any, resolve: Resolve) -> Iterator[_Mapping]:
    """Every mapping of the payload that is no state dict, the shallowest first."""
    pending: list[tuple[Any, tuple[str, ...]]] = [(root, ())]
    seen = 0
    while pending and seen < _MAPPINGS_MAX:
        value, path = pending.pop(0)
        values = fields_of(value)
        if values is None or (path and _is_state(values)):
            continue
        seen += 1
        values = with_numbers(values, resolve)
        cls = shown(value.class_name, 120) if isinstance(value, InertObject) else None
        yield _Mapping(path, values, cls, sizes_in(values))
        if len(path) < _DEPTH and len(values) <= 10_000:
            pending += [(item, (*path, key)) for key, item in values.items() if _may_hold_a_config(key, item)]


def _conflict(best: _Mapping, candidates: list[_Mapping]) -> tuple[str | None, tuple[str, ...]]:
    """The number of heads in `best` and in another configuration of the same model, where they differ; its names."""
    if any(name in _OF_THE_MODEL for name in best.path) or len(best.sizes) < _ENOUGH:
        return None, ()
    sizes = size_values(best.values)
    for other in candidates:
        if other is best or len(other.sizes) < _ENOUGH or any(map(is_copy, other.path)):
            continue
        theirs = size_values(other.values)
        if {size for size, value in theirs.items() if sizes.get(size, value) != value} == {"heads"}:
            where = f"{sizes['heads']} heads in {best.shown_path}, {theirs['heads']} in {other.shown_path}"
            return where, SIZES["heads"]
    return None, ()


def _may_hold_a_config(key: Any, item: Any) -> bool:
    is_value = isinstance(item, (bool, int, float, TensorRef, list, tuple, type(None)))
    return isinstance(key, str) and not is_value and not key.startswith(_NEVER)


def _is_state(values: dict[Any, Any]) -> bool:
    tensors = [item for item in values.values() if isinstance(item, TensorRef)]
    return 2 * len(tensors) > len(values) and any(item.shape for item in tensors)


def _is_candidate(mapping: _Mapping) -> bool:
    known = any(name in _KEYS for name in mapping.path)
    if known and isinstance(mapping.values.get("model_type"), str):
        return True
    return len(mapping.sizes) >= (1 if known else _ENOUGH)


def _scalars(values: dict[Any, Any], lists: bool = False) -> dict[Any, Any]:
    def kept(item: Any) -> bool:
        if lists and isinstance(item, (list, tuple)):  # window_sizes of each layer
            return 0 < len(item) <= _LIST_MAX and all(type(part) in _SCALARS for part in item)
        return type(item) in _SCALARS

    return {key: item for key, item in values.items() if kept(item)}


def _missing(values: dict[str, Any], best: _Mapping, other: _Mapping) -> dict[str, Any]:
    """Fields that `values` lacks: sizes from the same part of the payload, architecture from any configuration."""
    more: dict[Any, Any] = {}
    if not other.path or other.path[:1] == best.path[:1]:
        more = {name: other.values.get(name) for size in other.sizes - sizes_in(values) for name in SIZES[size]}
    inside = other.path[: len(best.path)] == best.path  # nested in `best`, so it has its meaning there
    if any(name in _KEYS or _CONFIG_NAME.search(name) for name in other.path) and not inside:
        more |= architecture_in(_scalars(other.values, lists=True))
    return {name: plain(item) for name, item in more.items() if item is not None and name not in values}
