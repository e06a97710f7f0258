"""nanoGPT's meta.pkl beside a `.bin`: read as inert data, for what its ids stand for. Nothing in it is ever called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Meta:
    """vocab_size ids; id_bytes int32 (vocab_size,), UTF-8 bytes of each id's text."""

    vocab_size: int
    id_bytes: np.ndarray


def read_meta(path: Path) -> Meta | None:
    """The file's character table, or None where it is absent or holds something else."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    table = _inert(content)
    if not isinstance(table, dict) or not isinstance(table.get("itos"), dict):
        return None
    texts = {key: text for key, text in table["itos"].items() if type(key) is int and isinstance(text, str)}
    if not texts or min(texts) < 0 or max(texts) >= 1 << 20:
        return None
    vocab_size = max(texts) + 1
    id_bytes = np.full(vocab_size, -1, dtype=np.int32)
    for key, text in texts.items():
        id_bytes[key] = len(text.encode("utf-8", "surrogatepass"))
    return Meta(vocab_size, id_bytes)


def _inert(content: bytes) -> object:
    from evalcore.archive.errors import ArchiveError
    from evalcore.archive.pickle.machine import unpickle

    try:
        return unpickle(content).value
    except ArchiveError:
        return None
