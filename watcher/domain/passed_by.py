"""What is in a watched folder and is not watched, in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from watcher.domain.checkpoint import NOT_INCLUDED, WITHOUT_WEIGHTS


def is_reported(reason: str) -> bool:
    """Whether the log reports files that are ignored for this reason."""
    return NOT_INCLUDED in reason or reason == WITHOUT_WEIGHTS


def passed_by(ignored: Mapping[str, int]) -> list[str]:
    """`5 .bin files here; `include` takes none of them` for each kind that the settings could take or a user misses.

    ignored: reason -> number, as a scan counts.
    """
    sentences = []
    for reason, number in ignored.items():
        if reason == WITHOUT_WEIGHTS:
            sentences.append(f"{number} {reason if number == 1 else reason.replace('folder', 'folders', 1)}")
        noun, not_included, _ = reason.partition(f", {NOT_INCLUDED}")
        if not_included:
            nouns = noun if number == 1 else re.sub(r"\b(file|folder)\b", r"\1s", noun)
            sentences.append(
                f"{number} {nouns} here; `include` " + ("does not take it" if number == 1 else "takes none of them")
            )
    return sentences


def ignored_words(ignored: Mapping[str, int]) -> list[str]:
    """A line for each reason; those that the settings could change come first."""
    others = [f"{number} ignored: {reason}" for reason, number in ignored.items() if not is_reported(reason)]
    return passed_by(ignored) + others
