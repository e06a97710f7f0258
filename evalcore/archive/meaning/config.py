"""Where a checkpoint's model configuration stands: in the payload, in the module itself, or in a file beside it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from typing import Any

from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.pickle.plain import plain
from evalcore.archive.pickle.values import Foreign

#: the usual names, the likeliest first; nanoGPT's `config` is the training script's globals, its `model_args` the model
_KEYS = (
    "model_args",
    "model_config",
    "config",
    "cfg",
    "hparams",
    "hyper_parameters",
    "args",
    "model_cfg",
    "gpt_config",
)
#: a mapping is a model's configuration where it has one of these
_MARKS = (
    "n_layer", "n_layers", "num_hidden_layers", "num_layers", "n_embd", "d_model", "hidden_size", "n_head", "n_heads",
    "num_attention_heads", "vocab_size", "block_size", "model_type", "dim",
)  # fmt: skip


@dataclass(frozen=True)
class FoundConfig:
    """values: plain. source: "payload:config" or "sidecar:config.json"; cls: the class it was pickled as, if any.

    sidecar: (name, `sha256:...` of the values) where they come from a file beside the checkpoint.
    """

    values: dict[str, Any]
    source: str
    cls: str | None = None
    sidecar: tuple[str, str] | None = None


def config_in(root: Any) -> FoundConfig | None:
    """The model's configuration in the payload, one level of nesting below the usual keys included."""
    for key, value in _candidates(root):
        cls = None
        if isinstance(value, Foreign):
            cls = shown(value.name, 120)
            value = value.fields()
        if isinstance(value, dict) and value:
            inner = _with_marks(value)
            if inner is not None:
                return FoundConfig(plain(inner), f"payload:{key}", cls)
    return None


def corrected(config: FoundConfig | None, settings: dict[str, Any] | None) -> FoundConfig | None:
    """The checkpoint's configuration with the user's `[model] config` laid over it: theirs wins, field by field."""
    if not settings:
        return config
    if config is None:
        return FoundConfig(dict(settings), "settings")
    return replace(config, values={**config.values, **settings}, source=f"{config.source}, settings")


def values_digest(values: dict[str, Any]) -> str:
    """`sha256:...` of plain values, whatever their order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _candidates(root: Any) -> list[tuple[str, Any]]:
    if isinstance(root, Foreign):
        return [("config", root.fields().get("config"))]
    if not isinstance(root, dict):
        return []
    found = [(key, root[key]) for key in _KEYS if key in root]
    for key in ("extra", "meta", "metadata", "model"):
        nested = root.get(key)
        if isinstance(nested, Foreign):
            nested = nested.fields()
        if isinstance(nested, dict):
            found += [(f"{key}.{name}", nested[name]) for name in _KEYS if name in nested]
    return found


def _with_marks(value: dict[Any, Any]) -> dict[Any, Any] | None:
    if any(mark in value for mark in _MARKS):
        return value
    for key in ("model", "model_args", "model_config", "config", "gpt"):
        inner = value.get(key)
        if isinstance(inner, Foreign):
            inner = inner.fields()
        if isinstance(inner, dict) and any(mark in inner for mark in _MARKS):
            return inner
    return None


@dataclass(frozen=True)
class Sidecar:
    """A small file beside the checkpoint that speaks of it, as plain values."""

    name: str
    values: dict[str, Any]

    @property
    def config(self) -> FoundConfig | None:
        inner = _with_marks(self.values)
        if inner is None:
            return None
        values = plain(inner)
        return FoundConfig(values, f"sidecar:{self.name}", sidecar=(self.name, values_digest(values)))


def sidecars_of(path: str | None) -> list[Sidecar]:
    """The recognised files beside the checkpoint: nanochat's meta, `<stem>.json`, config.json, litgpt's YAML."""
    if path is None:
        return []
    folder, base = os.path.split(path)
    stem = os.path.splitext(base)[0]
    names = [f"{stem}.json"]
    if stem.startswith("model_"):
        names.insert(0, f"meta_{stem[len('model_') :]}.json")
    names += [
        "config.json",
        "model_config.json",
        "model_config.yaml",
        "config.yaml",
        "trainer_state.json",
        "params.json",
    ]
    found = []
    for name in names:
        values = read_values(os.path.join(folder, name))
        if values:
            found.append(Sidecar(name, values))
    return found


def read_values(path: str) -> dict[str, Any] | None:
    """A JSON object, or the flat `key: value` lines of a YAML file; None where it is absent, large, or neither."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None
    try:
        data = os.read(fd, LIMITS.text_bytes + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) > LIMITS.text_bytes:
        return None
    text = data.decode("utf-8", "replace")
    if not path.endswith((".yaml", ".yml")):
        return _json_object(text)
    return _flat_yaml(text)


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _flat_yaml(text: str) -> dict[str, Any]:
    """Top-level scalars only: what a model's configuration needs, without a YAML parser in the daemon."""
    values: dict[str, Any] = {}
    for line in text.splitlines()[:10_000]:
        key, colon, rest = line.partition(":")
        if not colon or line[:1] in ("#", " ", "-", "\t", "") or not rest.strip():
            continue
        values[key.strip().strip("'\"")] = _yaml_scalar(rest.partition(" #")[0].strip())
    return values


def _yaml_scalar(text: str) -> Any:
    special = {"null": None, "~": None, "true": True, "false": False}
    if text.lower() in special:
        return special[text.lower()]
    if len(text) <= 40:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text.strip("'\"")
