"""Message dataclasses as JSON and back, each field checked against its annotation.

Owns the encoding: floats that are not finite are strings, unknown fields and other versions are refused. Standard
library only; knows no message by name.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import Any, get_args, get_type_hints


class ContractError(ValueError):
    """A request or outcome that does not follow this contract; the message names the field."""


def to_json(value: Any) -> str:
    """A contract dataclass as JSON; non-finite floats become the strings `nan`, `inf`, `-inf` (JSON has none)."""
    return json.dumps(_encodable(dataclasses.asdict(value)), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(kind: type, text: str) -> Any:
    """Read back what `to_json` wrote. Raises ContractError on anything else: wrong version, field, or type."""
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{kind.__name__} is not JSON: {error}") from None
    return _build(kind, data)


def _encodable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _build(kind: type, data: Any) -> Any:
    if not isinstance(data, dict):
        raise ContractError(f"{kind.__name__} is a {type(data).__name__}, not an object")
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - set(known)):
        raise ContractError(f"{kind.__name__} has unknown fields: {', '.join(unknown)}")
    if "version" in known and data.get("version") != (ours := known["version"].default):
        raise ContractError(f"{kind.__name__}.version is {data.get('version')!r}; this is version {ours}")
    values = {name: _value(kind, name, known[name].type, item) for name, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ContractError(f"{kind.__name__}: {error}") from None


def _value(kind: type, name: str, annotation: Any, item: Any) -> Any:
    nested = _nested(kind, name)
    text = str(annotation)
    if nested is not None and item is not None:
        if text.startswith("tuple"):
            return tuple(_build(nested, part) for part in _list(kind, name, item))
        return _build(nested, item)
    if text.startswith("tuple"):
        inner = text[6:].split(",")[0]
        return tuple(_scalar(kind, name, inner, part) for part in _list(kind, name, item))
    return _scalar(kind, name, text, item)


@functools.cache
def _nested(kind: type, name: str) -> type | None:
    """The message class in a field's annotation, alone or in a tuple, if there is one."""
    hint = get_type_hints(kind)[name]
    return next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)  # type: ignore[return-value]


def _list(kind: type, name: str, item: Any) -> list[Any]:
    if not isinstance(item, list):
        raise ContractError(f"{kind.__name__}.{name} is a {type(item).__name__}, not a list")
    return item


def _scalar(kind: type, name: str, annotation: str, item: Any) -> Any:
    allowed = [part.strip() for part in annotation.split("|")]
    if item is None and "None" in allowed:
        return None
    if "float" in allowed and (item in ("nan", "inf", "-inf") or type(item) in (int, float)):
        return float(item)
    if type(item).__name__ in allowed or (isinstance(item, dict) and annotation.startswith("dict")):
        return item
    raise ContractError(f"{kind.__name__}.{name} is {str(item)[:60]!r}, expected {annotation}")
