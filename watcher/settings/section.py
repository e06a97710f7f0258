"""What every section of the settings refuses: unknown keys, empty and unprintable text, values of another type.

Knows no section.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

INT64_MAX = (1 << 63) - 1
SECONDS_MAX = 1e9  # thirty years
NAME_MAX = 200
_PLAIN = re.compile(r"true|false|[-+]?[\d_]+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)


class Section(BaseModel):
    """A table of ckptwatch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    PATHS: ClassVar[frozenset[str]] = frozenset()  # keys that name files: `~` is expanded in them

    @field_validator("*", mode="before")
    @classmethod
    def _is_plain(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if (problem := _type_problem(value, cls.model_fields[name].annotation)) is not None:
            raise ValueError(problem)
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str):
                _check_text(text, name, is_path=name in cls.PATHS)
        return value


def _check_text(text: str, key: str, *, is_path: bool) -> None:
    if text == "" and key != "name":
        raise ValueError("is empty; give a value, or remove the key")
    if "\0" in text:
        raise ValueError("has a NUL byte")
    if is_path and text.startswith("~"):  # else it was expanded when the file was read
        raise ValueError(f"no home folder is known for {text.split('/')[0]}; write the whole path")
    if key == "name" and (not text.isprintable() or len(text) > NAME_MAX):
        raise ValueError(f"must be printable text of at most {NAME_MAX} characters")


def _type_problem(value: Any, annotation: Any) -> str | None:
    """Why a value would have to be converted to be of the key's type: pydantic would do it without a word."""
    kinds = _kinds(annotation)
    if isinstance(value, bool):
        return None if bool in kinds else "is true or false where another kind of value belongs"
    if isinstance(value, str) and not {str, Path} & kinds and value not in _choices(annotation):
        if not {bool, int, float} & kinds:
            return None
        advice = ": write it without quotes" if _PLAIN.fullmatch(value.strip()) else ""
        return f"is text where {'true or false' if bool in kinds else 'a number'} belongs{advice}"
    if isinstance(value, (int, float)) and bool in kinds and not {int, float} & kinds:
        return "is a number where true or false belongs"
    return None


def _kinds(annotation: Any) -> set[Any]:
    """The types of a key's own value, not those of a list's items."""
    if get_origin(annotation) in (Union, UnionType):
        return set[Any]().union(*map(_kinds, get_args(annotation)))
    return {annotation}


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The values of the annotation's Literals."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for inner in get_args(annotation) for choice in _choices(inner))
