"""What can be wrong with a file, and the bounds within which this package reads. Reads nothing."""

from __future__ import annotations

from dataclasses import dataclass

#: corrupt: damaged or unfinished. unsafe: would run code, or hides its size.
#: unsupported: valid, but of a kind that is not read here. shape: the numbers in it do not fit one another.
KINDS = ("corrupt", "unsafe", "unsupported", "shape")


class ArchiveError(Exception):
    """The file cannot be read as a checkpoint; `reason` is one sentence, `hint` says what to do.

    incomplete is True where the writer may simply not have finished yet: empty, or without its end record.
    """

    def __init__(self, kind: str, reason: str, hint: str = "", *, incomplete: bool = False) -> None:
        assert kind in KINDS, kind
        self.kind = kind
        self.reason = shown(reason, LIMITS.reason_chars)  # parts of it come from the file
        self.hint = shown(hint, LIMITS.reason_chars)
        super().__init__(self.reason)
        self.incomplete = incomplete

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.kind, self.reason, self.hint, self.incomplete)


def _rebuild(kind: str, reason: str, hint: str, incomplete: bool) -> ArchiveError:
    return ArchiveError(kind, reason, hint, incomplete=incomplete)


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read, so that no small file makes its reader slow or large.

    work: unpickling steps, which bound both its time (seconds) and its memory. integer_bytes: of one integer in a
    pickle (Python's conversion to text fails beyond 4,300 digits). name_chars: of a tensor's, class's or file's name.
    index_bytes, index_work: of a DCP folder's `.metadata`, which grows with tensors times ranks.
    names: distinct classes in one pickle. config_chars: of all text in a configuration. listed: names in a summary.
    """

    entries: int = 100_000
    pickle_bytes: int = 64 << 20
    file_bytes: int = 4 << 40
    nesting: int = 64
    work: int = 4_000_000
    index_bytes: int = 256 << 20
    index_work: int = 40_000_000
    config_items: int = 20_000
    text_bytes: int = 1 << 20
    header_bytes: int = 32 << 20
    integer_bytes: int = 256
    name_chars: int = 1000
    names: int = 10_000
    config_chars: int = 1 << 20
    listed: int = 200
    reason_chars: int = 2000


LIMITS = Limits()


def shown(value: object, length: int = 80) -> str:
    """A name from a file, fit for one line of a terminal, log or column: unprintable escaped, length bounded.

    value: a text, or something whose repr is known to be short.
    """
    text = value if isinstance(value, str) else repr(value)
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:length]
    )
    return escaped + ("..." if len(text) > length else "")
