"""Refuses a row whose fields disagree with the item that was made of it: two answers, other choices.

Owns which fields name an answer or the choices. Never renders an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalcore.tasks.answers import LETTERS, bare_label, is_absent
from evalcore.tasks.spec import LANGUAGE_MODELING

#: Fields by which files name the right choice, and those that list the choices.
_ANSWERS = ("label", "gold", "answer", "answerKey", "correct_answer")
_CHOICES = ("choices", "endings", "options", "context_options")


def problem_of_row(
    fields: Mapping[str, Any],
    kind: str,
    used: str | None,
    listed: str | None,
    choices: Sequence[str],
    gold: int,
    labels: Sequence[Any],
) -> str | None:
    """Which field of the row names another answer, or other choices, than the item has; None where none does.

    used, listed: the fields that the answer and the choices were taken from. labels: what the row calls its choices.
    """
    if kind == LANGUAGE_MODELING:
        return None
    own = fields.get(used) if used is not None else None
    for name in _ANSWERS:
        value = fields.get(name)
        if name == used or is_absent(value):
            continue
        if gold not in _meanings(value, own, choices, gold, labels):
            said = f"{used!r} says {own!r}" if used is not None else f"its right choice is {choices[gold][:60]!r}"
            return f"contradicts itself: {said}, and {name!r} says {value!r}"[:300]
    lists = {name: _stripped(fields.get(name)) for name in _CHOICES}
    given = [name for name, texts in lists.items() if texts]
    rendered = _stripped(list(choices))  # the harness keeps them beside the raw ones
    first = listed if listed in given else next(iter(given), None)
    for name in given:
        if name != first and lists[name] not in (lists[first], rendered):  # type: ignore[index]
            return f"has other choices in {name!r} than in {first!r}"
    return None


def _stripped(value: Any) -> list[str]:
    """A list of texts without the space around them; empty for anything else."""
    is_texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return [text.strip() for text in value] if is_texts else []


def _meanings(value: Any, own: Any, choices: Sequence[str], gold: int, labels: Sequence[Any]) -> set[int]:
    """Every choice that this value can name: a number from 0, a letter, a label, the choice's text.

    Of a list, the choices that every member can name: a second right answer contradicts the first.
    """
    if isinstance(value, list):
        members = [_meanings(member, own, choices, gold, labels) for member in value]
        return set.intersection(*members) if members else set()
    meanings = {number for number, text in enumerate(choices) if isinstance(value, str) and text == value.strip()}
    if isinstance(value, bool):
        return {int(value)} if len(choices) == 2 else set()
    text = bare_label(value)
    if text.lower() in ("true", "false") and len(choices) == 2:
        meanings.add(int(text.lower() == "true"))
    meanings |= {number for number, label in enumerate(labels) if bare_label(label) == text}
    if own is not None and text == bare_label(own):  # the same answer, counted from the same number
        meanings.add(gold)
    if text.isascii() and text.isdigit() and len(text) < 10:
        meanings.add(int(text))
    elif len(text) == 1 and text.upper() in LETTERS:
        meanings.add(LETTERS.index(text.upper()))
    return meanings
