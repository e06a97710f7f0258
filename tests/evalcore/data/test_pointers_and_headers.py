"""What stands in the place of data, and ids behind a header that no format has: refused with a remedy that works."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from evalcore.data import DataError, open_stream
from evalcore.messages import EvalSetSpec

IDS = np.random.default_rng(3).integers(0, 50_000, 700).astype("<u2")


def read(path, **more):
    stream = open_stream(EvalSetSpec("val", (str(path),), **{"tokenizer": None, **more}), cache_dir=path.parent / "c")
    return stream.read(0, len(stream)).tolist()


def refusal(path, **more):
    with pytest.raises(DataError) as caught:
        read(path, **more)
    return str(caught.value)


@pytest.mark.parametrize("name", ["val.bin", "val.txt", "val.jsonl"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"404: Not Found", "failed download"),
        (b"Entry not found\n", "failed download"),
        (b"/annex/objects/SHA256E-s1000--0123456789abcdef.bin\n", "git annex get"),
    ],
)
def test_a_pointer_or_the_words_of_a_failed_download_are_refused_under_any_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name, tokenizer="bytes")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<I", 700),
        struct.pack("<Q", 700),
        struct.pack("<IIII", 7, 1, 700, 0),
        struct.pack("<256i", 1234567, 1, 700, *[0] * 253),
    ],
)
def test_ids_behind_a_header_that_counts_them_are_refused_and_read_without_it(tmp_path, header):
    path = tmp_path / "val.bin"
    path.write_bytes(header + IDS.tobytes())
    said = refusal(path)
    assert f"first {len(header)} bytes count the 700 tokens" in said and "numpy.save" in said
    np.save(tmp_path / "val.npy", IDS)
    assert read(tmp_path / "val.npy") == IDS.tolist()
    path.write_bytes(IDS.tobytes())
    assert read(path) == IDS.tolist()


def test_numbers_written_as_text_are_refused_as_token_ids_unless_they_are_meant_as_text(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text(" ".join(map(str, IDS.tolist())) + "\n")
    assert "token ids" in refusal(path, tokenizer="bytes")
    assert bytes(read(path, tokenizer="bytes", format="text")).decode() == path.read_text()
    (tmp_path / "years.txt").write_text("1984 was written in 1948.\n")
    assert len(read(tmp_path / "years.txt", tokenizer="bytes")) == 26


def test_compressed_json_lines_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "val.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b'{"text": "ab"}\n{"text": "c"}\n'))
    assert bytes(read(path, tokenizer="bytes")) == b"abc"


@pytest.mark.parametrize("form", ["dict", "list", "stoi alone"])
def test_meta_pkl_tells_its_characters_in_each_form_that_trainers_write(tmp_path, form):
    texts = ["a", "é", "漢"]  # 1, 2 and 3 bytes of UTF-8
    itos = dict(enumerate(texts)) if form == "dict" else texts
    table = {"stoi": {t: i for i, t in enumerate(texts)}} if form == "stoi alone" else {"itos": itos}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 3, **table}))
    np.array([0, 1, 2, 2] * 100, "<u2").tofile(tmp_path / "val.bin")
    stream = open_stream(EvalSetSpec("val", (str(tmp_path / "val.bin"),)), cache_dir=tmp_path / "c")
    assert stream.target_bytes(np.array([0, 1, 2])).tolist() == [1, 2, 3]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_ids_is_no_token_file(tmp_path, protocol):
    (tmp_path / "val.bin").write_bytes(pickle.dumps(IDS.tolist(), protocol))
    assert "a Python pickle" in refusal(tmp_path / "val.bin")


def test_ids_that_begin_as_a_pickle_does_are_read(tmp_path):
    ids = np.array([0x0480, 0x5D, *range(100, 200)], "<u2")
    ids.tofile(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin") == ids.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Repository not found\n", "the words of a failed download"),
        (b"outs:\n- md5: 0123\n  size: 5\n  path: val.bin\n", "a DVC pointer"),
        (("[" + ", ".join(map(str, IDS)) + "]").encode(), "numbers alone"),
        (b"\n".join(b"%.18e" % number for number in IDS), "numbers alone"),
        (b"text,label\nhello there,1\nwhat is it,0\nno,1\n", "a table of columns"),
        ("hello\n".encode("utf-32") * 9, "iconv -f UTF-32"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(90), "7z"),
    ],
)
def test_what_stands_under_the_name_of_a_text_is_named(tmp_path, content, words):
    (tmp_path / "val.txt").write_bytes(content)
    assert words in refusal(tmp_path / "val.txt", tokenizer="bytes")


def test_a_poem_with_a_comma_in_each_line_is_text(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"O wind, blow\nO sea, rise\nO sky, fall\nO sun, shine\n")
    assert len(read(tmp_path / "val.txt", tokenizer="bytes")) > 40


def test_a_field_that_is_no_text_is_named_with_its_line(tmp_path):
    (tmp_path / "val.jsonl").write_text('{"text": "a b"}\n{"text": null}\n')
    assert "line 2: its field 'text' is null" in refusal(tmp_path / "val.jsonl", tokenizer="bytes")
