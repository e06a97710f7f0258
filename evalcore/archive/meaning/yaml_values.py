"""YAML as trainers write it: nested mappings and lists of scalars. A daemon without a YAML parser needs no more.

Reads text only. What is no mapping, list or scalar (anchors, block texts) is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from evalcore.archive.errors import LIMITS


def yaml_mappings(text: str) -> dict[str, Any]:
    """Nested mappings and lists of scalars, by indentation; block texts are left out."""
    values: dict[str, Any] = {}
    opened = [_Opened(-1, values)]
    for line in text.splitlines()[:10_000]:
        bare = line.lstrip(" ")
        indent = len(line) - len(bare)
        while bare.startswith("- "):
            _close(opened, indent, keep_equal=True)
            rest = bare[2:].lstrip(" ")
            indent += len(bare) - len(rest)
            bare = rest
            opened.append(_Opened(indent - 1, opened[-1].item(bare)))
        key, colon, rest = bare.partition(":")
        if not colon or bare[:1] in ("#", "-", "\t", "") or (rest and not rest.startswith((" ", "\t"))):
            continue
        _close(opened, indent, keep_equal=False)
        name, scalar = key.strip().strip("'\""), rest.partition(" #")[0].strip()
        parent = opened[-1].values
        if scalar:
            parent[name] = _yaml_scalar(scalar)
        elif len(opened) < LIMITS.nesting:
            parent[name] = {}
            opened.append(_Opened(indent, parent[name], parent, name))
    return values


@dataclass
class _Opened:
    """A mapping that may get more entries: the indentation of its key, and its place in its parent if it is a list."""

    indent: int
    values: dict[str, Any]
    parent: dict[str, Any] | None = None
    name: str = ""

    def item(self, text: str) -> dict[str, Any]:
        """The next item of the list under this key: a scalar is added at once, a mapping is returned to be filled."""
        mapping: dict[str, Any] = {}
        if self.parent is None or self.values:
            return mapping
        items = self.parent[self.name]
        if not isinstance(items, list):
            items = self.parent[self.name] = []
        is_mapping = text.endswith(":") or ": " in text
        items.append(mapping if is_mapping else _yaml_scalar(text.partition(" #")[0].strip()))
        return mapping


def _close(opened: list[_Opened], indent: int, *, keep_equal: bool) -> None:
    """Close what a line at this indentation no longer belongs to; a list may stand at the indentation of its key."""
    while len(opened) > 1 and opened[-1].indent >= indent + keep_equal:
        opened.pop()


def _yaml_scalar(text: str) -> Any:
    special = {"null": None, "~": None, "true": True, "false": False}
    if text.lower() in special:
        return special[text.lower()]
    if text[:1] in "[{":
        return _yaml_flow(text)
    if len(text) <= 40:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text.strip("'\"")


def _yaml_flow(text: str) -> Any:
    """`[1, 2]` and `{}` on one line; any other flow mapping as its text."""
    if text.startswith("[") and text.endswith("]") and not set(text[1:-1]) & set("[]{}'\""):
        return [_yaml_scalar(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
