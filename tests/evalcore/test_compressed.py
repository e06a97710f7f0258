"""Compressed data that ends within a frame, or is damaged, is an error: never a shorter text."""

import gzip
import io
import json
import zlib

import pyarrow
import pytest

from evalcore.compressed import FrameReader
from evalcore.data import DataError
from evalcore.data.data_file import DataFile
from evalcore.data.documents import Meter, documents

TEXT = "".join(f"line {n * n * 7919}\n" for n in range(3000)).encode()


def read(path):
    for blocks in documents(DataFile(path, "jsonl", "JSON lines"), "text", Meter()):
        yield from blocks


def frames(data):
    """zlib's objects have the face of zstandard's."""
    return io.BufferedReader(FrameReader(io.BytesIO(data), zlib.decompressobj, zlib.error))


def test_frames_are_read_one_after_another_to_the_end():
    assert frames(zlib.compress(TEXT)).read() == TEXT
    assert frames(zlib.compress(TEXT) + zlib.compress(b"more") + zlib.compress(b"")).read() == TEXT + b"more"
    assert frames(b"").read() == b""


@pytest.mark.parametrize("kept", [1, 500, 3000, -4, -1])
def test_a_frame_that_is_cut_off_is_an_error(kept):
    whole = zlib.compress(TEXT)
    for data in (whole[:kept], whole + whole[:kept]):
        with pytest.raises(EOFError, match="ends before its frame"):
            frames(data).read()
    with pytest.raises(OSError, match="is damaged"):
        frames(whole[:2000] + bytes(200) + whole[2200:]).read()


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_compressed_text_that_is_damaged_is_refused_by_its_path(suffix, damage, tmp_path):
    path = tmp_path / f"val.jsonl.{suffix}"
    rows = "".join(json.dumps({"text": line.decode()}) + "\n" for line in TEXT.splitlines()).encode()
    if suffix == "gz":
        path.write_bytes(gzip.compress(rows))
    else:
        with pyarrow.output_stream(str(path), compression="zstd") as file:
            file.write(rows)
    assert "".join(read(path)) == TEXT.decode().replace("\n", "")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] if damage == "cut" else data[:middle] + bytes(60) + data[middle + 60 :])
    with pytest.raises(DataError, match=r"val\.jsonl"):
        list(read(path))
