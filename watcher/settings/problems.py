"""One line for each problem that validation found: where, what, and for an unknown key the nearest valid one."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from watcher.settings.masking import masked
from watcher.settings.schema import Settings

GIVEN_MAX = 60
_WORDS = {"tuple_type": "must be a list", "model_type": "must be a table", "missing": "missing"}


def problem_lines(error: ValidationError) -> list[str]:
    """In the order of the file. What every alternative of one key refuses is one problem."""
    lines: dict[str, tuple[list[str], str]] = {}
    for item in error.errors(include_url=False):
        where, key = _place(item["loc"])
        words, given = _words(item, where, key)
        lines.setdefault(where or "the file", ([], given))[0].append(words)
    return [f"{where}: {'; or: '.join(dict.fromkeys(words))}{given}" for where, (words, given) in lines.items()]


def _place(location: tuple[int | str, ...]) -> tuple[str, str]:
    """The dotted path of the key, without the names of the alternatives that pydantic tried, and the key itself."""
    kind: Any = Settings
    parts: list[str] = []
    key = ""
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
            continue
        if kind is None:
            break
        parts.append(part)
        key = part
        field = kind.model_fields.get(part)
        kind = _section_in(field.annotation) if field is not None else None
    return ".".join(parts), key


def _words(item: Any, where: str, key: str) -> tuple[str, str]:
    kind, value = item["type"], item.get("input")
    if kind == "extra_forbidden":
        known = _keys_beside(item["loc"])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return "unknown key" + (f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"), ""
    if kind == "tuple_type" and where in Settings.model_fields:
        return f"may stand several times: write [[{where}]]", ""
    words = _WORDS.get(kind) or item["msg"].removeprefix("Value error, ")
    if kind == "missing" or not where or isinstance(value, (dict, BaseModel)):
        return words, ""
    return words, f" (given: {_shown(value, key)!r})"


def _shown(value: Any, key: str) -> str:
    try:
        text = str(masked(value, key))
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return type(value).__name__
    return text if len(text) <= GIVEN_MAX else text[:GIVEN_MAX] + "..."


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    kind: Any = Settings
    for part in location[:-1]:
        if isinstance(part, str):
            kind = _section_in(kind.model_fields[part].annotation)
    return list(kind.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
