"""What every section of the settings refuses: unknown keys, empty and unprintable text, truth values as numbers.

Knows no section.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

INT64_MAX = (1 << 63) - 1
SECONDS_MAX = 1e9  # thirty years
NAME_MAX = 200


class Section(BaseModel):
    """A table of ckptwatch.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    PATHS: ClassVar[frozenset[str]] = frozenset()  # keys that name files: `~` is expanded in them

    @field_validator("*", mode="before")
    @classmethod
    def _is_plain(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if isinstance(value, bool) and not _accepts(bool, cls.model_fields[name].annotation):
            raise ValueError("is true or false where another kind of value belongs")
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


def _accepts(kind: type, annotation: Any) -> bool:
    return annotation is kind or any(_accepts(kind, inner) for inner in get_args(annotation))
