"""Tokenizers by name or file: tiktoken encodings, ranks files, pickled encodings, bytes, Hugging Face tokenizer.json.

Each one encodes text to ids and knows how many bytes of text each id stands for. Never trains, never sends anything;
only tiktoken itself may fetch the ranks of an encoding that is not in its cache.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from evalcore.data.characters import character_tokenizer
from evalcore.data.errors import DataError, TokenizerUnavailable
from evalcore.data.pieces import text_of_pieces
from evalcore.data.tiktoken_pickle import read_encoding

#: GPT-2's pre-tokeniser, for ranks files without a pattern of their own.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
EOS_TEXTS = ("<|endoftext|>", "<|end_of_text|>")
BOS_TEXTS = ("<|bos|>", "<|begin_of_text|>", "<|startoftext|>", *EOS_TEXTS)
SPECIAL = -1  # bytes of a special token: it stands for no text
#: SHA-256 of the published ranks files, which hold no pattern: GPT-2's, and those with another pattern.
_GPT2_RANKS = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
_OTHER_PATTERN = {
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "cl100k_base",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k_base",
}
BYTES_NAMES = {"bytes": None, "bytes+eos": 256}


class Tokenizer(Protocol):
    """name: as given. identity: changes when any id could. eos_id: put after each text file, None where there is none.

    bos_id: before a text, for tasks that want one; the end-of-text id where a vocabulary has one id for both.
    leading_ids: what the tokenizer's own configuration puts before every text; `encode` leaves it out. whole_text: the
    text of a document must be encoded in one piece. prefix_bytes: bytes of a document's first id that are not in its
    text. notes: what was assumed, for the result's note.
    """

    name: str
    identity: str
    vocab_size: int
    eos_id: int | None
    bos_id: int | None
    leading_ids: tuple[int, ...]
    whole_text: bool
    prefix_bytes: int
    notes: tuple[str, ...]

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text, literal special tokens included as themselves; an unsigned 1-D array."""

    def encode_ordinary(self, text: str) -> np.ndarray:
        """The same with literal special tokens as ordinary text, where the library can."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out; bytes that are not UTF-8 are U+FFFD. Ids that the vocabulary
        does not have are written `<|id N|>`."""

    def id_bytes(self) -> np.ndarray | None:
        """int32 (vocab_size,): bytes of text per id, -1 for special tokens; None where ids have no fixed length."""


@dataclass
class ByteTokenizer:
    """Ids 0 to 255 are the bytes of the UTF-8 text. `bytes` has no end-of-text token; `bytes+eos` has id 256."""

    name: str
    eos_id: int | None
    whole_text: bool = False
    prefix_bytes: int = 0
    notes: tuple[str, ...] = ()
    leading_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.identity = self.name
        self.bos_id = self.eos_id
        self.vocab_size = 256 if self.eos_id is None else 257

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    encode_ordinary = encode

    def decode(self, ids: Sequence[int]) -> str:
        return text_of_pieces(ids, lambda index: bytes([index]) if index < 256 else self._special_text(index))

    def _special_text(self, index: int) -> bytes | None:
        return EOS_TEXTS[0].encode() if index == self.eos_id else None

    def id_bytes(self) -> np.ndarray:
        table = np.ones(self.vocab_size, dtype=np.int32)
        table[256:] = SPECIAL
        return table


@dataclass
class TiktokenTokenizer:
    """A tiktoken Encoding; literal special tokens in a text count as those tokens.

    A vocabulary without an end-of-text token, such as nanochat's, has `<|bos|>` between documents.
    """

    name: str
    encoding: Any
    identity: str
    whole_text: bool = False
    prefix_bytes: int = 0
    notes: tuple[str, ...] = ()
    leading_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.vocab_size = self.encoding.n_vocab
        self.eos_id, self.bos_id = self._special((*EOS_TEXTS, "<|bos|>")), self._special(BOS_TEXTS)

    def _special(self, texts: tuple[str, ...]) -> int | None:
        known = next((text for text in texts if text in self.encoding.special_tokens_set), None)
        return None if known is None else self.encoding.encode_single_token(known)

    def encode(self, text: str) -> np.ndarray:
        if hasattr(self.encoding, "encode_to_numpy"):
            return self.encoding.encode_to_numpy(text, allowed_special="all", disallowed_special=())
        return np.array(self.encoding.encode(text, allowed_special="all", disallowed_special=()), dtype=np.uint32)

    def encode_ordinary(self, text: str) -> np.ndarray:
        if hasattr(self.encoding, "encode_to_numpy"):
            return self.encoding.encode_to_numpy(text, disallowed_special=())
        return np.array(self.encoding.encode_ordinary(text), dtype=np.uint32)

    def decode(self, ids: Sequence[int]) -> str:
        return text_of_pieces(ids, self._piece)

    def _piece(self, index: int) -> bytes | None:
        try:
            return self.encoding.decode_single_token_bytes(index)
        except KeyError:  # beyond the vocabulary, or one of its gaps
            return None

    def id_bytes(self) -> np.ndarray:
        table = np.full(self.vocab_size, SPECIAL, dtype=np.int32)
        special = {self.encoding.encode_single_token(text) for text in self.encoding.special_tokens_set}
        for index in range(self.vocab_size):
            if index not in special:
                with contextlib.suppress(KeyError):  # some vocabularies have gaps
                    table[index] = len(self.encoding.decode_single_token_bytes(index))
        return table


def build_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by tiktoken name, `bytes`, `bytes+eos`, or the path of a ranks file, a .json or a .pkl."""
    if name in BYTES_NAMES:
        return ByteTokenizer(name, BYTES_NAMES[name])
    if name.endswith(".json") or (Path(name) / "tokenizer.json").is_file():
        from evalcore.data.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer(name)
    if name.endswith(".pkl") or (Path(name) / "tokenizer.pkl").is_file():
        return _from_pickle(name)
    if name.endswith((".tiktoken", ".model")) or os.sep in name:
        return _from_ranks(Path(name))
    return _by_name(name)


def _by_name(name: str) -> TiktokenTokenizer:
    import tiktoken

    known = tiktoken.list_encoding_names()
    if name not in known:
        raise DataError(
            f"tokenizer {name!r} is not known",
            f"use bytes, one of {', '.join(sorted(known))}, or the path of a .tiktoken or tokenizer.json file",
        )
    try:
        encoding = tiktoken.get_encoding(name)
    except Exception as error:  # requests' own errors, OSError, ValueError by a damaged cache
        raise TokenizerUnavailable(
            f"the ranks of tokenizer {name!r} are not cached here and cannot be fetched ({type(error).__name__})",
            "set TIKTOKEN_CACHE_DIR to a folder that has them, or name another tokenizer: `bytes`, or the path of a "
            "tokenizer.json, .tiktoken or .pkl file",
        ) from error
    return TiktokenTokenizer(name, encoding, identity=f"tiktoken:{name}:{encoding.n_vocab}")


def _from_pickle(name: str) -> Tokenizer:
    """nanochat's tokenizer.pkl, or the folder that holds it; nanoGPT's meta.pkl."""
    path = Path(name) / "tokenizer.pkl" if os.path.isdir(name) else Path(name)
    if (characters := character_tokenizer(path, name)) is not None:
        return characters
    import tiktoken

    pickled = read_encoding(path)
    if pickled.registered is not None:
        return _by_name(pickled.registered)
    ranks, special = pickled.ranks or {}, pickled.special_tokens or {}
    try:
        encoding = tiktoken.Encoding(path.stem, pat_str=pickled.pattern, mergeable_ranks=ranks, special_tokens=special)
    except ValueError as error:  # the pattern is no regular expression
        raise DataError(
            f"tokenizer file {path} cannot be used: {str(error)[:200]}", "save the tokenizer again"
        ) from None
    return TiktokenTokenizer(name, encoding, identity="pickled:" + hashlib.sha256(pickled.content).hexdigest())


def _from_ranks(path: Path) -> TiktokenTokenizer:
    """A ranks file (`base64 rank` per line); `<file>.json` beside it may give pattern and special_tokens."""
    import tiktoken

    try:
        content = path.read_bytes()
        ranks = {
            base64.b64decode(token): int(rank)
            for token, rank in (line.split() for line in content.splitlines() if line)
        }
    except FileNotFoundError:
        raise DataError(f"tokenizer file {path} does not exist", "check the path, or use `bytes`") from None
    except (OSError, ValueError, binascii.Error) as error:
        raise DataError(f"tokenizer file {path} is not a ranks file: {error}", "one `base64 rank` per line") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or not all(bytes([b]) in ranks for b in range(256)):
        raise DataError(f"tokenizer file {path} lacks some byte or rank", "every byte and every rank must occur once")
    settings = _ranks_settings(path)
    digest = hashlib.sha256(content).hexdigest()
    notes: tuple[str, ...] = ()
    if "pattern" not in settings and digest in _OTHER_PATTERN:
        encoding_name = _OTHER_PATTERN[digest]
        raise DataError(
            f"{path} holds the ranks of {encoding_name}, but neither its pattern nor its special tokens",
            f"give --tokenizer {encoding_name}, or write pattern and special_tokens into {path.name}.json beside it",
        )
    if digest != _GPT2_RANKS and not {"pattern", "special_tokens"} <= set(settings):
        notes = (f"tokenizer {path.name}: GPT-2's pattern and end of text assumed where {path.name}.json has none",)
    special = settings.get("special_tokens") or {"<|endoftext|>": len(ranks)}
    encoding = tiktoken.Encoding(
        path.stem, pat_str=settings.get("pattern") or GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
    )
    identity = hashlib.sha256(content + json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return TiktokenTokenizer(str(path), encoding, identity=f"ranks:{identity}", notes=notes)


def _ranks_settings(path: Path) -> dict[str, Any]:
    beside = path.with_name(path.name + ".json")
    if not beside.exists():
        return {}
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{beside} is not JSON: {error}", "it may hold pattern and special_tokens") from None
    if not isinstance(settings, dict):
        raise DataError(f"{beside} is not a JSON object", "it may hold pattern and special_tokens")
    return settings
