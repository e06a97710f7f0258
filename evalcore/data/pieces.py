"""Token ids back into text, piece by piece. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def unknown_id(index: int) -> str:
    """How an id that a vocabulary does not have is written in a text."""
    return f"<|id {index}|>"


def text_of_pieces(ids: Sequence[int], piece: Callable[[int], bytes | None]) -> str:
    """The text of ids. piece: the bytes of an id, None where there are none."""
    pieces = (piece(index) for index in ids)
    joined = b"".join(
        unknown_id(index).encode() if text is None else text for index, text in zip(ids, pieces, strict=True)
    )
    return joined.decode("utf-8", "replace")
