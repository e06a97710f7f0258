"""Numbers in a blob are little-endian on every machine, and damaged blobs are an error."""

from __future__ import annotations

import struct
import zlib

import pytest

from watcher.store.packed import packed, unpacked


def test_a_blob_is_little_endian_and_reads_back():
    assert zlib.decompress(packed("d", [1.5, -2.25])) == struct.pack("<2d", 1.5, -2.25)
    assert zlib.decompress(packed("I", [7, 2**32 - 1])) == struct.pack("<2I", 7, 2**32 - 1)
    assert list(unpacked("d", packed("d", [1.5, -2.25]))) == [1.5, -2.25]


def test_a_damaged_blob_is_no_number():
    with pytest.raises(zlib.error):
        unpacked("d", packed("d", [1.0])[:-2])
    with pytest.raises(ValueError):
        unpacked("d", zlib.compress(b"1234567"))
