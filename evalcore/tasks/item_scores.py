"""Scores of every item of one task on one checkpoint, and their compact form in an outcome and in the database.

Owns the packed layout. Standard library only: the daemon, `compare` and `results --items` decode it. Never computes a
score.
"""

from __future__ import annotations

import base64
import binascii
import struct
import sys
import zlib
from array import array
from dataclasses import dataclass

_MAGIC = b"CWI1"
_HEADER = struct.Struct("<4sIII")  # magic, items, choices of all items, CRC-32 of the columns
#: attribute of ItemScores, array type, whether it has one entry a choice (else one an item); in the order on disk
_COLUMNS = (
    ("index", "I", False),
    ("gold", "H", False),
    ("chosen", "H", False),
    ("chosen_norm", "H", False),
    ("correct", "B", False),
    ("correct_norm", "B", False),
    ("n_choices", "H", False),
    ("gold_nats", "d", False),
    ("gold_tokens", "I", False),
    ("gold_bytes", "I", False),
    ("choice_nats", "d", True),
)
#: A damaged header must not make a reader allocate what it claims.
_MAX_BYTES = 1 << 30


class ItemScoresError(ValueError):
    """Bytes that are no packed item scores."""


@dataclass
class ItemScores:
    """One entry per item, in the order of the file; choice_nats: per choice of each item, in order.

    index: position of the item in the file, from 0. gold, chosen, chosen_norm: index of the right choice and of those
    with the highest score, raw and normalised. correct, correct_norm: 1 or 0; equal where the task has one accuracy.
    gold_nats: of the whole gold continuation. gold_bytes: 0 where the bytes are not known. choice_nats: -log p of each
    choice's scored tokens; a language-modelling item has one choice, its gold continuation.
    """

    index: array[int]
    gold: array[int]
    chosen: array[int]
    chosen_norm: array[int]
    correct: array[int]
    correct_norm: array[int]
    n_choices: array[int]
    gold_nats: array[float]
    gold_tokens: array[int]
    gold_bytes: array[int]
    choice_nats: array[float]

    def __len__(self) -> int:
        return len(self.index)

    def choices_of(self, item: int) -> list[float]:
        """choice_nats of the item at this place in the columns."""
        start = sum(self.n_choices[:item])
        return list(self.choice_nats[start : start + self.n_choices[item]])


def pack(scores: ItemScores) -> bytes:
    """Little-endian columns one after the other, deflated, after a header with their lengths and CRC-32."""
    columns = b"".join(_little(array(kind, getattr(scores, name))).tobytes() for name, kind, _ in _COLUMNS)
    header = _HEADER.pack(_MAGIC, len(scores), len(scores.choice_nats), zlib.crc32(columns))
    return header + zlib.compress(columns, 6)


def unpack(packed: bytes) -> ItemScores:
    """Read back what `pack` wrote. Raises ItemScoresError on anything else."""
    try:
        magic, n_items, n_choices, crc = _HEADER.unpack_from(packed)
    except struct.error:
        raise ItemScoresError(f"{len(packed)} bytes are too few for item scores") from None
    expected = sum((n_choices if per_choice else n_items) * array(kind).itemsize for _, kind, per_choice in _COLUMNS)
    if magic != _MAGIC:
        raise ItemScoresError(f"item scores begin with {magic!r}, not {_MAGIC!r}")
    if expected > _MAX_BYTES:
        raise ItemScoresError(f"item scores claim {expected} bytes; {_MAX_BYTES} are the most that is read")
    try:
        inflate = zlib.decompressobj()
        columns = inflate.decompress(packed[_HEADER.size :], expected + 1)
    except zlib.error as error:
        raise ItemScoresError(f"item scores are damaged: {error}") from None
    if not inflate.eof or inflate.unused_data or len(columns) != expected or zlib.crc32(columns) != crc:
        raise ItemScoresError("item scores are damaged: their checksum does not match")
    values, start = {}, 0
    for name, kind, per_choice in _COLUMNS:
        column = array(kind)
        stop = start + (n_choices if per_choice else n_items) * column.itemsize
        column.frombytes(columns[start:stop])
        values[name], start = _little(column), stop
    scores = ItemScores(**values)
    if sum(scores.n_choices) != n_choices:
        raise ItemScoresError("item scores are damaged: the choices of the items do not add up")
    return scores


def to_text(scores: ItemScores) -> str:
    """`pack` as base64, for JSON: `Measurement.item_scores`."""
    return base64.b64encode(pack(scores)).decode("ascii")


def packed_of_text(text: str) -> bytes:
    """The bytes of `to_text`, as the database keeps them. Raises ItemScoresError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ItemScoresError(f"item scores are not base64: {error}") from None


def _little(column: array) -> array:
    if sys.byteorder == "big":
        column.byteswap()
    return column
