"""The small files that describe a checkpoint, beside it: which names count, and their content as plain values.

Reads JSON and YAML. Decides nothing about what the values mean.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from evalcore.archive.errors import LIMITS
from evalcore.archive.meaning.yaml_values import yaml_mappings

#: these describe the model, not one checkpoint: they hold no step
OF_THE_MODEL = (
    "config.json",
    "model_config.json",
    "model_config.yaml",
    "config.yaml",
    "hparams.yaml",
    "params.json",
    "model_args.json",
    "args.json",
)


@dataclass(frozen=True)
class Sidecar:
    """A small file beside the checkpoint, as plain values."""

    name: str
    values: dict[str, Any]


def sidecars_of(path: str | None) -> list[Sidecar]:
    """The recognised files beside the checkpoint: nanochat's meta, `<stem>.json`, config.json, litgpt's YAML."""
    if path is None:
        return []
    folder, base = os.path.split(path)
    stem = os.path.splitext(base)[0]
    names = [f"{stem}.json"]
    if stem.startswith("model_"):
        names.insert(0, f"meta_{stem[len('model_') :]}.json")
    of_the_model = sorted(OF_THE_MODEL, key=lambda name: name != "model_config.yaml" or stem != "lit_model")
    names += [*of_the_model, "trainer_state.json"]
    read = ((name, read_values(os.path.join(folder, name))) for name in names)
    return [Sidecar(name, values) for name, values in read if values]


def read_values(path: str) -> dict[str, Any] | None:
    """A JSON object, or the mappings of a YAML file; None where it is absent, large, or neither."""
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
    return yaml_mappings(text) if path.endswith((".yaml", ".yml")) else json_object(text)


def json_object(text: str) -> dict[str, Any] | None:
    """The object that the text spells, or None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
