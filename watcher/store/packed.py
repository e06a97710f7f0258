"""Columns of numbers in one blob: deflated, little-endian whatever the machine. Owns the way there and back."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable


def packed(kind: str, values: Iterable[float]) -> bytes:
    """kind: of `array`: "d" for float64, "I" for uint32."""
    return zlib.compress(_little_endian(array(kind, values)).tobytes())


def unpacked(kind: str, blob: bytes) -> array:
    """The inverse of `packed`. Raises zlib.error or ValueError where the blob is damaged."""
    values = array(kind)
    values.frombytes(zlib.decompress(blob))
    return _little_endian(values)


def _little_endian(values: array) -> array:
    """Swapped in place on a big-endian machine; the same call leads back."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
