"""Where a long text may be cut so that its tokens stay the same: tokenising in bounded memory.

A cut is safe where every GPT-style pre-tokeniser ends a piece whatever follows: between a letter and a single space
that a letter follows, or after a single newline between a non-space and a letter. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SPACE = re.compile(r"[A-Za-z](?= [A-Za-z])")
_NEWLINE = re.compile(r"\S\n(?=[^\W\d_])")


def safe_cut(text: str, since: int = 0) -> int | None:
    """Index of the last safe cut at or after `since`, or None."""
    for pattern in (_SPACE, _NEWLINE):
        last = None
        for match in pattern.finditer(text, since):
            if pattern is _SPACE or text[match.end()].isalpha():  # isalpha is Unicode's L, which [^\W\d_] exceeds
                last = match.end()
        if last is not None:
            return last
    return None


def chunks(blocks: Iterable[str], chunk_chars: int) -> Iterator[str]:
    """Regroup a text that arrives in blocks into chunks of about chunk_chars, cut only where it is safe.

    A text without any safe cut becomes one chunk: exact tokens matter more than memory.
    """
    held = ""
    for block in blocks:
        since = max(0, len(held) - 2)  # what was there before has no safe cut left
        held += block
        while len(held) >= chunk_chars:
            cut = safe_cut(held[:chunk_chars], max(since, chunk_chars // 2)) or safe_cut(held, since)
            if cut is None:
                break
            yield held[:cut]
            held, since = held[cut:], 0
    if held:
        yield held
