"""A stream of token ids over several mapped files, read window by window.

Owns reading and the facts of a stream (length, largest id, bytes per id, documents). Never copies a file whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evalcore.data.errors import DataError

_SCAN_TOKENS = 1 << 22

#: report(phase, bytes done, bytes in all): called as work advances; phases: hashing, tokenising, reading ids.
ReportPhase = Callable[[str, int, int], None]

#: Rows of a model beyond its tokenizer's ids: Qwen2 has 293, GPT-NeoX up to 411; ByT5 half as many as it has bytes.
_MOST_RESERVED, _MOST_PADDING = 1.25, 512


@dataclass(eq=False)
class TokenStream:
    """One eval set's tokens in order.

    parts: 1-D integer arrays, memory-mapped where they come from files. id_bytes: int32 (V,), the number of text
    bytes that each id stands for, -1 for special tokens; None where they are unknown. document_starts: int64, the
    position of the first token of each document; None where they are not known. prefix_bytes: how many of the first
    token's bytes the tokenizer has put before each document's text. tokenizer: its name. bytes_declared: the ids
    were not made here, and the tokenizer is only declared to be theirs. decode: the text of ids; None where no
    tokenizer is known.
    """

    parts: Sequence[np.ndarray]
    max_tokens: int | None = None
    id_bytes: np.ndarray | None = None
    document_starts: np.ndarray | None = None
    bytes_declared: bool = False
    prefix_bytes: int = 0
    tokenizer: str | None = None
    label: str = ""
    notes: list[str] = field(default_factory=list)
    decode: Callable[[Sequence[int]], str] | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.ndim != 1 or part.dtype.kind not in "iu":
                raise DataError(f"{self.label or 'stream'} holds {part.dtype} of shape {part.shape}, not 1-D token ids")
        self._id_range: tuple[int, int] | None = None
        ends = np.cumsum([0, *(len(part) for part in self.parts)])
        self._ends = ends
        self.n_tokens = int(ends[-1]) if self.max_tokens is None else min(int(ends[-1]), self.max_tokens)

    def __len__(self) -> int:
        return self.n_tokens

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as a fresh int64 array."""
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start}:{stop} of a stream of {self.n_tokens}")
        out = np.empty(stop - start, dtype=np.int64)
        part = int(np.searchsorted(self._ends, start, side="right")) - 1
        done = 0
        while done < len(out):
            begin = start + done - int(self._ends[part])
            piece = self.parts[part][begin : begin + len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            part += 1
        return out

    @property
    def id_range(self) -> tuple[int, int]:
        """Smallest and largest id among the tokens in use."""
        return self.measure_ids()

    def measure_ids(self, report: ReportPhase | None = None) -> tuple[int, int]:
        """Smallest and largest id, by one pass in blocks, done once. Raises DataError where there are no tokens."""
        if self._id_range is not None:
            return self._id_range
        low, high = None, None
        width = self.parts[0].dtype.itemsize if self.parts else 0
        for start in range(0, self.n_tokens, _SCAN_TOKENS):
            block = self.read(start, min(start + _SCAN_TOKENS, self.n_tokens))
            low = int(block.min()) if low is None else min(low, int(block.min()))
            high = int(block.max()) if high is None else max(high, int(block.max()))
            if report is not None:
                report("reading ids", (start + len(block)) * width, self.n_tokens * width)
        if low is None or high is None:
            raise DataError(f"{self.label or 'the stream'} has no tokens", "name a file with data in it")
        self._id_range = low, high
        return low, high

    def checksum(self) -> int:
        """CRC-32 of the tokens in use as int64; one pass in blocks."""
        crc = 0
        for start in range(0, self.n_tokens, _SCAN_TOKENS):
            crc = zlib.crc32(self.read(start, min(start + _SCAN_TOKENS, self.n_tokens)).data, crc)
        return crc

    def know_bytes(
        self, id_bytes: np.ndarray | None, tokenizer: str, decode: Callable[[Sequence[int]], str] | None = None
    ) -> None:
        """Take a tokenizer's bytes per id, unless an id outside its vocabulary shows that it is not theirs."""
        self.tokenizer = tokenizer
        if id_bytes is not None and self.id_range[1] >= len(id_bytes):
            self.notes.append(
                f"bits per byte unknown: id {self.id_range[1]} is not among the {len(id_bytes)} of {tokenizer}"
            )
            return
        self.id_bytes, self.decode = id_bytes, decode
        self.bytes_declared = True

    def for_vocabulary(self, vocab_size: int) -> TokenStream:
        """This stream; without bytes per id where a tokenizer was only declared and has more text than the model.

        A tokenizer whose vocabulary cannot be the model's, padding and reserved ids included, is noted.
        """
        if self.id_bytes is None:
            return self
        has_more = bool((self.id_bytes[vocab_size:] >= 0).any())
        sizes = f"{self.tokenizer} has {len(self.id_bytes)} ids, the model {vocab_size}"
        if has_more and self.bytes_declared:
            note = f"bits per byte unknown: {sizes}"
            return replace(self, id_bytes=None, decode=None, notes=[*self.notes, note])
        if has_more or vocab_size > _MOST_RESERVED * len(self.id_bytes) + _MOST_PADDING:
            return replace(self, notes=[*self.notes, f"tokenizer {sizes}: it is probably not the model's own"])
        return self

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise DataError (kind `shape`) unless every id has a row in a vocabulary of this size."""
        low, high = self.id_range
        if low < 0 or high >= vocab_size:
            wrong = high if high >= vocab_size else low
            raise DataError(
                f"token id {wrong} in {self.label or 'the stream'} is outside the model's vocabulary of {vocab_size}",
                self._remedy(),
                kind="shape",
            )

    def _remedy(self) -> str:
        if self.tokenizer is not None:
            return (
                f"the data has the ids of tokenizer {self.tokenizer}: give the model's own with --tokenizer "
                "(`bytes`, or a .tiktoken or tokenizer.json file)"
            )
        return (
            "the data was made with another tokenizer than the model, or has another type (--token-dtype uint32, "
            "int64 or uint8 for files without a header)"
        )

    def target_bytes(self, ids: np.ndarray) -> np.ndarray | None:
        """Text bytes that each id stands for, -1 for special tokens; None where they are not known."""
        if self.id_bytes is None:
            return None
        inside = ids < len(self.id_bytes)
        return np.where(inside, self.id_bytes[np.where(inside, ids, 0)], -1)


def as_stream(tokens: Any, max_tokens: int | None = None) -> TokenStream:
    """A TokenStream as it is, or a 1-D array, tensor or list of ids wrapped into one."""
    if isinstance(tokens, TokenStream):
        return tokens
    if hasattr(tokens, "detach"):
        tokens = tokens.detach().cpu().numpy()
    array = np.asarray(tokens)
    return TokenStream([array], max_tokens=max_tokens, label="the given tokens")
