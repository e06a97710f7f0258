"""The settings file: every section and key, from the fields of watcher.settings.schema.Settings."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.from_code.markdown import cell, code, first_paragraph, generated
from watcher.settings.template import section_in, sections, toml_value

_ABOUT = """
The settings live in `ckptwatch.toml` (another file: `-c FILE`). `ckptwatch init` writes one;
`ckptwatch config validate` checks it and prints every problem.

- Only `[[run]] dir` and `[[eval]] data` are required. Sections in double brackets can be repeated.
- Relative paths are relative to the file.
- Units are in the names: `_s` seconds, `_bytes` bytes, `_tokens` tokens.
- `CKPTWATCH_DB` and `CKPTWATCH_STATE_DIR` name the database and the state folder. Keys of `[launch]`, `[store]`,
  `[web]` and `[model]` can be set by `CKPTWATCH_<SECTION>_<KEY>`, for example `CKPTWATCH_LAUNCH_DEVICE=cpu` or
  `CKPTWATCH_LAUNCH_SLURM_PARTITION=gpu`; a list is given with commas. A variable that sets no key, or is empty, is an
  error.
- `SIGHUP` makes a running daemon reload the file. A file with a problem is refused and the old settings stay in force.

`ckptwatch config schema --toml` prints the same as a commented file (`configs/full.toml`), `ckptwatch config schema`
as a JSON schema for editors.
"""


def page() -> str:
    """One section after another, one line for each key."""
    parts = [generated("Configuration", "watcher/settings/schema.py", _ABOUT)]
    for name, section, many in sections():
        title = f"[[{name}]]" if many else f"[{name}]"
        about = first_paragraph(section).split(": ", 1)[-1].rstrip(".")
        parts.append(f"## `{title}`\n\n{about[0].upper() + about[1:]}.\n")
        lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for key, field in section.model_fields.items():
            if section_in(field.annotation) is None:
                meaning = cell(field.description or "")
                lines.append(f"| `{key}` | {cell(kind(field))} | {cell(default(field))} | {meaning} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def kind(field: FieldInfo) -> str:
    """The accepted values: number, text, list of text, one of several."""
    words = list(dict.fromkeys(_kinds(field.annotation)))
    bounds = ", ".join(words_ for bound in field.metadata if (words_ := _bound(bound)))
    return " or ".join(words) + (f", {bounds}" if bounds else "")


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    if field.default is PydanticUndefined or field.default in (None, "", ()):
        return ""
    return code(toml_value(field.default))


def _kinds(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (code(toml_value(value)) for value in get_args(annotation))
    elif origin is tuple:
        inner = [part for part in get_args(annotation) if part is not Ellipsis]
        yield "list of " + " or ".join(words for part in inner for words in _kinds(part))
    elif origin is dict:
        yield "table"
    elif get_args(annotation):
        for part in get_args(annotation):
            if part is not NoneType:
                yield from _kinds(part)
    else:
        yield {
            "str": "text",
            "int": "whole number",
            "float": "number",
            "bool": "`true` or `false`",
            "Path": "path",
        }.get(annotation.__name__, annotation.__name__)


def _bound(bound: Any) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{word} {getattr(bound, sign):g}" for sign, word in signs.items() if hasattr(bound, sign))
