"""From what a row names as its answer (a label, a list with one label, a choice's text) to the choices it can mean.

Owns how labels are written: `A`, `(A)`, `A.`. Never decides between two answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BRACKETED = re.compile(r"[(\[]\s*(\w+)\s*[)\]]|(\w+)\s*[.):]", re.ASCII)


def is_absent(value: Any) -> bool:
    """Whether a field holds nothing: null, an empty text or an empty list."""
    return value is None or value == "" or value == []


def bare_label(value: Any) -> str:
    """A label without what is written around it: `A` of `(A)`, `[A]`, `A.`, `A)` and `A:`."""
    text = str(value).strip()
    found = _BRACKETED.fullmatch(text)
    return text if found is None else found[1] or found[2]


def single(value: Any) -> Any:
    """The one member of a list of equal members, else the value itself."""
    if isinstance(value, list) and value and all(member == value[0] for member in value):
        return value[0]
    return value


def choices_named(value: Any, labels: Sequence[Any], texts: Sequence[str]) -> list[int]:
    """The choices of this label, as it stands or without brackets; where there is none, the choices of this text.

    A number that is no label names none: it could count from 0 or from 1.
    """
    if not isinstance(value, str):
        return [number for number, label in enumerate(labels) if label == value and type(label) is type(value)]
    text = value.strip()
    return (
        [number for number, label in enumerate(labels) if str(label).strip() == text]
        or [number for number, label in enumerate(labels) if bare_label(label) == bare_label(text)]
        or [number for number, choice in enumerate(texts) if choice.strip() == text and not text.isdigit()]
    )
