"""A tiktoken Encoding that was pickled, such as nanochat's tokenizer.pkl: read as inert data, never unpickled.

Owns what of the pickle counts: pattern, ranks and special tokens. Builds no tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalcore.archive.errors import ArchiveError
from evalcore.archive.pickle.machine import unpickle
from evalcore.archive.pickle.values import InertObject
from evalcore.data.errors import DataError

_MAX_BYTES = 64 << 20
_CLASS = "tiktoken.core.Encoding"
_REMEDY = "export its mergeable ranks as a .tiktoken file, with pattern and special_tokens in FILE.json beside it"


@dataclass(frozen=True)
class PickledEncoding:
    """registered: the name of an encoding of tiktoken itself, which has no ranks in the pickle."""

    content: bytes
    registered: str | None = None
    pattern: str = ""
    ranks: dict[bytes, int] | None = None
    special_tokens: dict[str, int] | None = None


def read_encoding(path: Path) -> PickledEncoding:
    """The encoding in the file. Raises DataError where it holds anything else."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"tokenizer file {path} has more than {_MAX_BYTES >> 20} MiB", _REMEDY)
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"tokenizer file {path} does not exist", "check the path, or use `bytes`") from None
    except OSError as error:
        raise DataError(f"tokenizer file {path} cannot be read: {error.strerror}", "check its permissions") from None
    try:
        value = unpickle(content).value
    except ArchiveError as error:
        raise DataError(f"tokenizer file {path} is no pickle that is read here: {error.reason}", _REMEDY) from None
    if not isinstance(value, InertObject) or value.class_name != _CLASS:
        what = value.class_name if isinstance(value, InertObject) else type(value).__name__
        raise DataError(f"tokenizer file {path} holds a {what}, not a {_CLASS}, and is not unpickled", _REMEDY)
    if isinstance(value.state, str):
        return PickledEncoding(content, registered=value.state)
    return _encoding(path, content, value.state)


def _encoding(path: Path, content: bytes, state: Any) -> PickledEncoding:
    fields = state if isinstance(state, dict) else {}
    pattern, ranks, special = (fields.get(name) for name in ("pat_str", "mergeable_ranks", "special_tokens"))
    if isinstance(pattern, str) and isinstance(ranks, dict) and isinstance(special, dict):
        known = all(type(n) is int for n in (*ranks.values(), *special.values()))
        known = known and all(type(key) is bytes for key in ranks) and all(type(key) is str for key in special)
        known = known and "" not in special and all(bytes([byte]) in ranks for byte in range(256))
        if known and sorted([*ranks.values(), *special.values()]) == list(range(len(ranks) + len(special))):
            return PickledEncoding(content, None, pattern, ranks, special)
    raise DataError(f"tokenizer file {path} lacks its pattern, some ranks or its special tokens", _REMEDY)
