"""Refuses a row whose fields disagree with the item that was made of it: two answers, the right choice twice.

Owns which fields name an answer or the choices. Never renders an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalcore.tasks.spec import LANGUAGE_MODELING

#: Fields by which files name the right choice, and those that list the choices.
_ANSWERS = ("label", "gold", "answer", "answerKey", "correct_answer")
_CHOICES = ("choices", "endings", "options", "context_options")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def problem_of_choices(choices: Sequence[Any], gold: int) -> str | None:
    """Why these choices have no one right answer; None where they have. Choices are texts, or token ids as bytes.

    Wrong choices that are the same are none: some real items have them.
    """
    if len(choices) < 2:
        return "has one choice alone: every model would be right"
    same = [number for number, choice in enumerate(choices) if number != gold and choice == choices[gold]]
    return f"has the right choice twice, as {gold} and as {same[0]}: no model could tell them apart" if same else None


def problem_of_row(
    fields: Mapping[str, Any], kind: str, used: str | None, choices: Sequence[str], gold: int, labels: Sequence[Any]
) -> str | None:
    """Which field of the row names another answer, or other choices, than the item has; None where none does.

    used: the field that the answer was taken from. labels: letters or numbers that the row gives its choices.
    """
    if kind == LANGUAGE_MODELING:
        return None
    own = fields.get(used) if used is not None else None
    for name in _ANSWERS:
        value = fields.get(name)
        if name == used or value is None or value == "":
            continue
        if gold not in _meanings(value, own, choices, gold, labels):
            said = f"{used!r} says {own!r}" if used is not None else f"its right choice is {choices[gold][:60]!r}"
            return f"contradicts itself: {said}, and {name!r} says {value!r}"[:300]
    lists = {name: _stripped(fields.get(name)) for name in _CHOICES}
    given = [name for name, texts in lists.items() if texts]
    for name in given[1:]:
        if lists[name] != lists[given[0]]:
            return f"has other choices in {name!r} than in {given[0]!r}"
    return None


def _stripped(value: Any) -> list[str]:
    """A list of texts without the space around them; empty for anything else."""
    is_texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return [text.strip() for text in value] if is_texts else []


def _meanings(value: Any, own: Any, choices: Sequence[str], gold: int, labels: Sequence[Any]) -> set[int]:
    """Every choice that this value can name: a number from 0, a letter, a label, the choice's text."""
    meanings = {number for number, text in enumerate(choices) if isinstance(value, str) and text == value.strip()}
    if isinstance(value, bool):
        return {int(value)} if len(choices) == 2 else set()
    text = str(value).strip()
    if text.lower() in ("true", "false") and len(choices) == 2:
        meanings.add(int(text.lower() == "true"))
    meanings |= {number for number, label in enumerate(labels) if str(label) == text}
    if own is not None and text == str(own).strip():  # the same answer, counted from the same number
        meanings.add(gold)
    if text.isascii() and text.isdigit() and len(text) < 10:
        meanings.add(int(text))
    elif len(text) == 1 and text.upper() in _LETTERS:
        meanings.add(_LETTERS.index(text.upper()))
    return meanings
