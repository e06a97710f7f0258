"""nanoGPT's meta.pkl beside a `.bin`: read as inert data, for what its ids stand for. Nothing in it is ever called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalcore.data.pieces import unknown_id

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Meta:
    """vocab_size ids; id_bytes int32 (vocab_size,), UTF-8 bytes of each id's text; texts: of each id that has one."""

    vocab_size: int
    id_bytes: np.ndarray
    texts: Mapping[int, str]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; an id without one is written `<|id N|>`, half a surrogate pair `?`."""
        whole = "".join(self.texts.get(index, unknown_id(index)) for index in ids)
        return whole.encode("utf-8", "replace").decode()


def read_meta(path: Path) -> Meta | None:
    """The file's character table, or None where it is absent or holds something else."""
    texts = read_texts(path)
    if not texts:
        return None
    vocab_size = max(texts) + 1
    id_bytes = np.full(vocab_size, -1, dtype=np.int32)
    for key, text in texts.items():
        id_bytes[key] = len(text.encode("utf-8", "surrogatepass"))
    return Meta(vocab_size, id_bytes, texts)


def read_texts(path: Path) -> dict[int, str]:
    """id -> its text; empty where the file is absent or holds something else."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        content = path.read_bytes()
    except OSError:
        return {}
    table = _inert(content)
    texts = _texts(table) if isinstance(table, dict) else {}
    return {} if not texts or min(texts) < 0 or max(texts) >= 1 << 20 else texts


def _texts(table: dict[Any, Any]) -> dict[int, str]:
    """id -> its text, from `itos` as a dict or a list, or from `stoi` alone."""
    itos, stoi = table.get("itos"), table.get("stoi")
    if isinstance(itos, list):
        itos = dict(enumerate(itos))
    elif itos is None and isinstance(stoi, dict):
        itos = {key: text for text, key in stoi.items() if type(key) is int}
    pairs = itos.items() if isinstance(itos, dict) else ()
    return {key: text for key, text in pairs if type(key) is int and isinstance(text, str)}


def _inert(content: bytes) -> object:
    from evalcore.archive.errors import ArchiveError
    from evalcore.archive.pickle.machine import unpickle

    try:
        return unpickle(content).value
    except ArchiveError:
        return None
