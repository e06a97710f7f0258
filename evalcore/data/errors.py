"""The error of validation data: one sentence with the path, and the next command."""

from __future__ import annotations


class DataError(Exception):
    """Data that cannot be measured on.

    kind: `data` (the files), or `shape` (ids or windows that do not fit the model).
    reason: one sentence with the path. hint: what to do or type next.
    """

    def __init__(self, reason: str, hint: str | None = None, kind: str = "data") -> None:
        super().__init__(reason if hint is None else f"{reason}; {hint}")
        self.reason = reason
        self.hint = hint
        self.kind = kind


class TokenizerUnavailable(DataError):
    """A good tokenizer that cannot be had on this machine now: no library, no ranks. Token files can do without it."""
