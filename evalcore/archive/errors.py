"""What can be wrong with a file, and the bounds within which this package reads. Owns the words; reads nothing."""

from __future__ import annotations

from dataclasses import dataclass

#: corrupt: damaged or unfinished. unsafe: would run code, or hides its size. unsupported: fine, but not ours to read.
#: shape: the numbers in it do not fit one another.
KINDS = ("corrupt", "unsafe", "unsupported", "shape")


class ArchiveError(Exception):
    """The file cannot be read as a checkpoint; `reason` is one sentence, `hint` says what to do.

    incomplete is True where the writer may simply not have finished yet: empty, or without its end record.
    """

    def __init__(self, kind: str, reason: str, hint: str = "", *, incomplete: bool = False) -> None:
        assert kind in KINDS, kind
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.hint = hint
        self.incomplete = incomplete

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.kind, self.reason, self.hint, self.incomplete)


def _rebuild(kind: str, reason: str, hint: str, incomplete: bool) -> ArchiveError:
    return ArchiveError(kind, reason, hint, incomplete=incomplete)


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read. work: unpickling steps, which bound both its time (seconds) and its memory."""

    entries: int = 100_000
    pickle_bytes: int = 64 << 20
    file_bytes: int = 4 << 40
    nesting: int = 64
    work: int = 4_000_000
    config_items: int = 20_000
    text_bytes: int = 1 << 20
    header_bytes: int = 100 << 20


LIMITS = Limits()


def shown(value: object, length: int = 80) -> str:
    """A name from a file, fit for one line of a terminal or log: control characters escaped, length bounded."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:length]
    )
    return text + ("..." if len(value if isinstance(value, str) else text) > length else "")
