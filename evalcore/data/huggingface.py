"""A Hugging Face tokenizer.json, read with the `tokenizers` library (extra `hf`).

Owns what its ids stand for in bytes. Never downloads, never reads pickles.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from evalcore.data.errors import DataError

_SPACE = "\u2581"
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_EOS_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


class HuggingFaceTokenizer:
    """tokenizer.json, or the folder that holds it; eos from tokenizer_config.json beside it where that is there."""

    def __init__(self, name: str) -> None:
        path = Path(name)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"tokenizer file {path} cannot be read: {error.strerror}", "check its path") from None
        try:
            import tokenizers
        except ImportError:
            raise DataError(
                f"{path} needs the tokenizers library, which is not installed", "pip install 'ckptwatch[hf]'"
            ) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
            self._content: dict[str, Any] = json.loads(content)
        except Exception as error:  # the library raises bare Exception on anything it cannot parse
            raise DataError(f"{path} is not a tokenizer.json: {error}", "save it again") from None
        self.name = name
        self.identity = "hf:" + hashlib.sha256(content).hexdigest()
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.eos_id = self._find_eos(path.with_name("tokenizer_config.json"))
        self.whole_text = not self._byte_level
        self.prefix_bytes = self._count_prefix()
        self.notes: tuple[str, ...] = ()

    def encode(self, text: str) -> np.ndarray:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.array(ids, dtype=np.uint32)

    @property
    def _byte_level(self) -> bool:
        before = self._content.get("pre_tokenizer") or {}
        steps = before.get("pretokenizers") or [before]
        levels = [step for step in steps if step.get("type") == "ByteLevel"]
        return bool(levels) and not levels[0].get("add_prefix_space") and not self._content.get("normalizer")

    @property
    def _spaced(self) -> bool:
        """SentencePiece's ways: a space is spelt as U+2581, and bytes outside the vocabulary as <0x00> to <0xFF>.

        Any other normalizer changes the text itself, so that an id's length is not a number of bytes of the text.
        """
        model = self._content.get("model") or {}
        whole = self._content.get("normalizer") or {}
        steps = whole.get("normalizers") or ([whole] if whole else [])
        plain = all(
            step.get("type") == "Prepend"
            or (step.get("type") == "Replace" and step.get("pattern") == {"String": " "} and step["content"] == _SPACE)
            for step in steps
        )
        return model.get("type") == "BPE" and bool(model.get("byte_fallback")) and plain

    def id_bytes(self) -> np.ndarray | None:
        """A byte-level vocabulary spells each byte as one character, SentencePiece's writes text out. Others: None."""
        if not (self._byte_level or self._spaced):
            return None
        vocab = self._tokenizer.get_vocab(with_added_tokens=False)
        table = np.full(max(self.vocab_size, 1 + max(vocab.values())), -1, dtype=np.int32)
        for token, index in vocab.items():
            table[index] = len(token) if self._byte_level else _written_bytes(token)
        for added in self._content.get("added_tokens") or []:
            table[added["id"]] = -1 if added.get("special") else len(added["content"].encode())
        return table

    def _count_prefix(self) -> int:
        """Bytes that a document's first token has more than its text: SentencePiece puts a space before it."""
        table = self.id_bytes() if self._spaced else None
        return 0 if table is None else int(table[self.encode("a")].sum()) - 1

    def _find_eos(self, config: Path) -> int | None:
        names = list(_EOS_NAMES)
        try:
            eos = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError):
            eos = None
        if isinstance(eos, dict):
            eos = eos.get("content")
        if isinstance(eos, str):
            names.insert(0, eos)
        indices = (self._tokenizer.token_to_id(name) for name in names)
        return next((index for index in indices if index is not None), None)


def _written_bytes(token: str) -> int:
    return 1 if _BYTE.fullmatch(token) else len(token.replace(_SPACE, " ").encode())
