"""The small files that describe a checkpoint, beside it: which names count, and their content as plain values.

Reads JSON, and of YAML its nested mappings of scalars: a daemon without a YAML parser needs no more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from evalcore.archive.errors import LIMITS

#: these describe the model, not one checkpoint: they hold no step
OF_THE_MODEL = (
    "config.json",
    "model_config.json",
    "model_config.yaml",
    "config.yaml",
    "hparams.yaml",
    "params.json",
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
    names += [*OF_THE_MODEL, "trainer_state.json"]
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


def yaml_mappings(text: str) -> dict[str, Any]:
    """Nested mappings with scalars, by indentation; lists and block texts are left out."""
    values: dict[str, Any] = {}
    open_mappings: list[tuple[int, dict[str, Any]]] = [(-1, values)]
    for line in text.splitlines()[:10_000]:
        bare = line.lstrip(" ")
        key, colon, rest = bare.partition(":")
        if not colon or bare[:1] in ("#", "-", "\t", "") or (rest and not rest.startswith((" ", "\t"))):
            continue
        indent = len(line) - len(bare)
        while open_mappings[-1][0] >= indent:
            open_mappings.pop()
        name, scalar = key.strip().strip("'\""), rest.partition(" #")[0].strip()
        parent = open_mappings[-1][1]
        if scalar:
            parent[name] = _yaml_scalar(scalar)
        elif len(open_mappings) < LIMITS.nesting:
            parent[name] = {}
            open_mappings.append((indent, parent[name]))
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
