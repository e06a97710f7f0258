"""Data sets in the layouts of their trainers: Megatron, Hugging Face datasets, nanochat's tokenizer, padded rows."""

import json
import os
import pickle
import struct

import numpy as np
import pytest

from evalcore.data.errors import DataError
from evalcore.data.opening import open_stream
from evalcore.data.sniffing import sniff
from evalcore.data.tokenizers import build_tokenizer
from evalcore.messages import EvalSetSpec

SEQUENCES = [[5, 70000, 7], [], [9, 10], [11], [12, 13, 14, 15]]


def save_megatron(folder, sequences=SEQUENCES, *, dtype="<i4", code=4, documents=(0, 2, 4, 5), cut=0):
    """As IndexedDatasetBuilder writes it: ids in the .bin; lengths, byte offsets and first sequences in the .idx."""
    path = folder / "val.bin"
    data = np.array([n for sequence in sequences for n in sequence], dtype=dtype).tobytes()
    path.write_bytes(data[: len(data) - cut] if cut >= 0 else data + bytes(-cut))
    lengths = [len(sequence) for sequence in sequences]
    offsets = [int(n) * np.dtype(dtype).itemsize for n in np.cumsum([0, *lengths])[:-1]]
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(lengths), len(documents))
    body = struct.pack(f"<{len(lengths)}i{len(lengths)}q{len(documents)}q", *lengths, *offsets, *documents)
    (folder / "val.idx").write_bytes(head + body)
    return path


def test_a_megatron_data_set_is_read_by_its_index(tmp_path):
    """Documents 0 to 2 hold sequences 0-1, 2-3 and 4: they begin at tokens 0, 3 and 6."""
    stream = open_stream(save_megatron(tmp_path))
    assert stream.read(0, 10).tolist() == [5, 70000, 7, 9, 10, 11, 12, 13, 14, 15]
    assert stream.document_starts.tolist() == [0, 3, 6]
    small = [[n % 60000 for n in sequence] for sequence in SEQUENCES]
    assert open_stream(save_megatron(tmp_path, small, dtype="<u2", code=8)).read(0, 2).tolist() == [5, 10000]
    assert sniff(save_megatron(tmp_path)).as_dict()["documents"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cut": 4}, "cut off: val.idx describes 10 tokens of int32, and it has 36 bytes"),
        ({"code": 7}, "are float32, not token ids"),
        ({"code": 8}, "places sequences elsewhere"),
        ({"cut": -4}, "longer than its index says"),
        ({"code": 9}, "type code 9"),
        ({"documents": (0, 2, 4)}, "names documents that are not in it"),
    ],
)
def test_a_megatron_data_set_whose_files_do_not_agree_is_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        open_stream(save_megatron(tmp_path, **change))


def test_a_damaged_or_multimodal_index_is_refused(tmp_path):
    path = save_megatron(tmp_path)
    whole = (tmp_path / "val.idx").read_bytes()
    for data, words in ((whole[:-8], "is damaged"), (whole + b"\0" * 5, "multimodal"), (whole[:20], "no whole index")):
        (tmp_path / "val.idx").write_bytes(data)
        with pytest.raises(DataError, match=words):
            open_stream(path)
    moved = bytearray(whole)
    at = 34 + 4 * len(SEQUENCES)
    moved[at : at + 8] = struct.pack("<q", 8)
    (tmp_path / "val.idx").write_bytes(moved)
    with pytest.raises(DataError, match="elsewhere than one after the other"):
        open_stream(path)


def save_dataset(folder, batches, *, shards=1):
    """As save_to_disk does: Arrow streams named by state.json. batches: of each file, columns -> values."""
    pyarrow = pytest.importorskip("pyarrow")
    folder.mkdir()
    names = [f"data-{i:05d}-of-{len(batches):05d}.arrow" for i in range(len(batches))]
    for name, columns in zip(names, batches, strict=True):
        table = pyarrow.table(columns)
        with pyarrow.OSFile(str(folder / name), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_folder_of_hugging_face_datasets_gives_its_texts_or_its_ids_in_order(tmp_path):
    texts = save_dataset(tmp_path / "texts", [{"text": ["one", "two", "three"]}, {"text": ["four"]}])
    stream = open_stream(texts, tokenizer="bytes+eos", cache_dir=tmp_path / "cache")
    assert bytes(n for n in stream.read(0, len(stream)).tolist() if n < 256) == b"onetwothreefour"
    assert stream.document_starts.tolist() == [0, 4, 8, 14]
    ids = save_dataset(tmp_path / "ids", [{"input_ids": [[1, 2, 3], [4], [70000, 6]]}, {"input_ids": [[7, 8]]}])
    stream = open_stream(ids)
    assert stream.read(0, 8).tolist() == [1, 2, 3, 4, 70000, 6, 7, 8]
    assert stream.document_starts.tolist() == [0, 3, 4, 6]
    assert sniff(ids).tokens == 8 and sniff(texts).problems == []


def test_a_dataset_that_is_not_clear_or_not_whole_is_refused_with_a_remedy(tmp_path):
    both = save_dataset(tmp_path / "both", [{"text": ["a"], "input_ids": [[1, 2]]}])
    with pytest.raises(DataError, match=r"both texts \(text\) and token ids") as caught:
        open_stream(both)
    assert "--format arrow" in str(caught.value)
    spec = EvalSetSpec("d", (str(both),), "arrow", "bytes")
    assert open_stream(spec, cache_dir=tmp_path / "cache").read(0, 1).tolist() == [97]
    os.remove(next(both.glob("*.arrow")))
    with pytest.raises(DataError, match="does not exist"):
        open_stream(both)
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    with pytest.raises(DataError, match="DatasetDict of 2 splits: train, validation"):
        open_stream(tmp_path / "dict")
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": 5}')
    with pytest.raises(DataError, match="names no files"):
        open_stream(tmp_path / "dict")


def test_nanochats_exported_tokenizer_is_read_as_data(tmp_path):
    """The ids are those of the tiktoken Encoding that was pickled; documents are separated by <|bos|>."""
    import tiktoken

    ranks = {bytes([n]): n for n in range(256)} | {b"th": 256, b"the": 257}
    special = {"<|bos|>": 258, "<|user_start|>": 259}
    encoding = tiktoken.Encoding("rustbpe", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens=special)
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    tokenizer = build_tokenizer(str(tmp_path / "tokenizer.pkl"))
    assert tokenizer.encode("the thing").tolist() == encoding.encode("the thing") == [257, 32, 256, 105, 110, 103]
    assert tokenizer.id_bytes()[[104, 257, 258, 259]].tolist() == [1, 3, -1, -1]
    (tmp_path / "val.jsonl").write_text('{"text": "the"}\n{"text": "a"}\n')
    stream = open_stream(tmp_path / "val.jsonl", tokenizer=str(tmp_path), cache_dir=tmp_path / "cache")
    assert stream.read(0, 4).tolist() == [257, 258, 97, 258]


@pytest.mark.parametrize(
    "change", [{"pat_str": "("}, {"mergeable_ranks": {}}, {"mergeable_ranks": {b"a": 0}}, {"special_tokens": {"": 256}}]
)
def test_a_pickled_encoding_that_cannot_encode_every_text_is_refused(tmp_path, monkeypatch, change):
    """tiktoken itself would panic, or would not return, in the first text with such a byte."""
    import tiktoken

    fields = {
        "name": "x", "pat_str": ".", "mergeable_ranks": {bytes([n]): n for n in range(256)}, "special_tokens": {},
    }  # fmt: skip
    encoding = tiktoken.Encoding(**fields)
    path = tmp_path / "tokenizer.pkl"
    path.write_bytes(pickle.dumps(encoding))
    assert build_tokenizer(str(path)).encode("a").tolist() == [97]
    monkeypatch.setattr(tiktoken.Encoding, "__getstate__", lambda self: fields | change)
    path.write_bytes(pickle.dumps(encoding))
    with pytest.raises(DataError, match=r"cannot be used|lacks its pattern, some ranks"):
        build_tokenizer(str(path))


def test_an_odd_number_of_bytes_gets_no_hint_to_read_it_as_uint16(tmp_path):
    (tmp_path / "val.bin").write_bytes(np.arange(5000, 6000, dtype="<u2").tobytes()[:-1])
    with pytest.raises(DataError, match="odd number") as caught:
        open_stream(tmp_path / "val.bin")
    assert "--token-dtype uint16" not in caught.value.hint


class _Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_tokenizer_pickle_of_anything_else_is_refused_and_runs_nothing(tmp_path):
    for name, value in (("bad", _Touches(tmp_path / "ran")), ("dict", {"mergeable_ranks": {}})):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(DataError, match=r"not a tiktoken\.core\.Encoding") as caught:
            build_tokenizer(str(tmp_path / f"{name}.pkl"))
        assert ".tiktoken" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_uint32_ids_read_as_uint16_because_somebody_said_so_are_noted(tmp_path):
    np.arange(1, 500, dtype="<u4").tofile(tmp_path / "val.bin")
    spec = EvalSetSpec("val", (str(tmp_path / "val.bin"),), token_dtype="uint16")
    assert any("probably --token-dtype uint32" in note for note in open_stream(spec).notes)
    assert any("uint32" in problem for problem in sniff(tmp_path / "val.bin", token_dtype="uint16").problems)
    np.arange(1, 500, dtype="<u2").tofile(tmp_path / "val.bin")
    assert open_stream(spec).notes == []


@pytest.mark.parametrize("side", ["begin", "end"])
def test_rows_that_begin_or_end_with_padding_are_refused_and_a_few_runs_are_noted(side, tmp_path):
    rows = np.random.default_rng(0).integers(1, 5000, (40, 32)).astype(np.uint16)
    np.save(tmp_path / "whole.npy", rows)
    assert not any("padding" in note for note in open_stream(tmp_path / "whole.npy").notes)
    for fill in (0, 50256):
        padded = rows.copy()
        for row, length in zip(padded, np.random.default_rng(1).integers(8, 33, 40), strict=True):
            (row if side == "end" else row[::-1])[length:] = fill
        np.save(tmp_path / "padded.npy", padded)
        with pytest.raises(DataError, match=f"{side} with runs of the id {fill}") as caught:
            open_stream(tmp_path / "padded.npy")
        assert f"--max-tokens {padded.size}" in str(caught.value)
        assert any("may be padding" in note for note in open_stream(tmp_path / "padded.npy", max_tokens=1280).notes)
    run = slice(-5, None) if side == "end" else slice(5)
    rows[3, run] = rows[9, run] = 7
    np.save(tmp_path / "few.npy", rows)
    assert any("2 of 40 rows" in note for note in open_stream(tmp_path / "few.npy").notes)
