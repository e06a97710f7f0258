"""The characters of nanoGPT's meta.pkl as a tokenizer: one id for each character. Reads the file as inert data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalcore.data.errors import DataError
from evalcore.data.metapickle import read_texts
from evalcore.data.pieces import text_of_pieces


class CharacterTokenizer:
    """texts: id -> its character. It has no special tokens, and refuses a text with another character."""

    eos_id: int | None = None
    bos_id: int | None = None
    leading_ids: tuple[int, ...] = ()
    whole_text = False
    prefix_bytes = 0
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, texts: dict[int, str]) -> None:
        self.name = name
        self._texts = texts
        self._ids = {text: index for index, text in texts.items()}
        self.vocab_size = max(texts) + 1
        self.identity = "characters:" + hashlib.sha256(json.dumps(sorted(texts.items())).encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        try:
            return np.array([self._ids[sign] for sign in text], dtype=np.uint32)
        except KeyError as error:
            raise DataError(
                f"tokenizer {self.name} has no character {error.args[0]!r}", "use a text of the characters it has"
            ) from None

    encode_ordinary = encode

    def decode(self, ids: Sequence[int]) -> str:
        return text_of_pieces(ids, lambda index: self._texts[index].encode() if index in self._texts else None)

    def id_bytes(self) -> np.ndarray:
        table = np.full(self.vocab_size, -1, dtype=np.int32)
        for index, text in self._texts.items():
            table[index] = len(text.encode())
        return table


def character_tokenizer(path: Path, name: str) -> CharacterTokenizer | None:
    """None where the file holds no table of single characters."""
    texts = read_texts(path)
    single = all(len(text) == 1 and not 0xD800 <= ord(text) < 0xE000 for text in texts.values())
    one_each = len(set(texts.values())) == len(texts)
    return CharacterTokenizer(name, texts) if texts and single and one_each else None
