"""A Hugging Face tokenizer.json, read with the `tokenizers` library (extra `hf`).

Owns what its ids stand for in bytes. Never downloads, never reads pickles.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalcore.data.errors import DataError, TokenizerUnavailable
from evalcore.data.pieces import unknown_id

_SPACE = "\u2581"
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_BOS_NAMES = ("<|bos|>", "<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>")
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
            raise TokenizerUnavailable(
                f"{path} needs the tokenizers library, which is not installed",
                "in a clone of ckptwatch: pip install '.[hf]'",
            ) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
            # what a trainer set for its last batch is saved with the vocabulary, and would cut or pad every text
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._content: dict[str, Any] = json.loads(content)
        except Exception as error:  # the library raises bare Exception on anything it cannot parse
            raise DataError(f"{path} is not a tokenizer.json: {error}", "save it again") from None
        self.name = name
        cut = any(self._content.get(key) for key in ("truncation", "padding"))  # token caches of 0.1.0 have cut texts
        self.identity = ("hf-whole:" if cut else "hf:") + hashlib.sha256(content).hexdigest()
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        config = _config_beside(path)
        self._refuse_other_space(path, config.get("add_prefix_space"))
        self.eos_id = self._find(config.get("eos_token"), _EOS_NAMES)
        bos_id = self._find(config.get("bos_token"), _BOS_NAMES)
        self.bos_id = self.eos_id if bos_id is None else bos_id
        self.leading_ids = self._find_leading()
        self.whole_text = not self._byte_level
        self.prefix_bytes = self._count_prefix()
        self.notes: tuple[str, ...] = ()

    def encode(self, text: str) -> np.ndarray:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.array(ids, dtype=np.uint32)

    encode_ordinary = encode  # the library takes its added tokens for themselves in any text, and so does nanochat

    def decode(self, ids: Sequence[int]) -> str:
        parts: list[str] = []
        for known, run in itertools.groupby(ids, lambda index: self._tokenizer.id_to_token(index) is not None):
            listed = list(run)
            parts.append(
                self._tokenizer.decode(listed, skip_special_tokens=False) if known else "".join(map(unknown_id, listed))
            )
        return "".join(parts)

    def _levels(self) -> list[dict[str, Any]]:
        """The byte-level steps of the pre-tokenizer."""
        before = self._content.get("pre_tokenizer") or {}
        return [step for step in before.get("pretokenizers") or [before] if step.get("type") == "ByteLevel"]

    def _refuse_other_space(self, path: Path, declared: Any) -> None:
        """transformers goes by the configuration or by tokenizer.json, depending on its version and the class."""
        written = [bool(level.get("add_prefix_space")) for level in self._levels()][:1]
        if isinstance(declared, bool) and written and written != [declared]:
            raise DataError(
                f"{path} has add_prefix_space {written[0]}, and tokenizer_config.json beside it {declared}: which of "
                "them the model was trained with is not clear",
                "correct one of the two files",
            )

    @property
    def _byte_level(self) -> bool:
        levels = self._levels()
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

    def _find_leading(self) -> tuple[int, ...]:
        """What the post-processor puts before a text."""
        bare, whole = (list(self._tokenizer.encode("a", add_special_tokens=add).ids) for add in (False, True))
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        return tuple(whole[:at])

    def _find(self, named: Any, names: tuple[str, ...]) -> int | None:
        """The id of a special token: as the configuration names it, else the first of these names that there is."""
        if isinstance(named, dict):
            named = named.get("content")
        texts = ([named] if isinstance(named, str) else []) + list(names)
        return next((index for text in texts if (index := self._tokenizer.token_to_id(text)) is not None), None)


def _config_beside(path: Path) -> dict[str, Any]:
    """tokenizer_config.json; empty where there is none that can be read."""
    try:
        config = json.loads(path.with_name("tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _written_bytes(token: str) -> int:
    return 1 if _BYTE.fullmatch(token) else len(token.replace(_SPACE, " ").encode())
