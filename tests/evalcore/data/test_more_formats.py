"""Parquet columns, rows of arrays, single ids, marks and tables under the name of a text; and windows of one token."""

import builtins

import numpy as np
import pytest
import torch

from evalcore.data import DataError, open_stream
from evalcore.measure.evaluate import evaluate
from evalcore.models.factory import wrap

TEXTS = ["One document.", "Zwei Dokumente, mit Umlaut: ü.", "", "Drei."]


def parquet(path, **columns):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        open_stream(path, **options)
    return caught.value


def test_the_text_column_of_a_parquet_file_is_read_as_the_same_texts_in_jsonl(tmp_path):
    import json

    path = parquet(tmp_path / "shard_00001.parquet", id=[1, 2, 3, 4], text=TEXTS)
    (tmp_path / "same.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    ours, same = (open_stream(p, tokenizer="bytes+eos") for p in (path, tmp_path / "same.jsonl"))
    assert ours.read(0, len(ours)).tolist() == same.read(0, len(same)).tolist()
    assert ours.document_starts.tolist() == same.document_starts.tolist()
    assert len(ours.document_starts) == 3


def test_a_parquet_file_without_texts_says_what_it_has(tmp_path):
    path = parquet(tmp_path / "a.parquet", content=["a", "b"], n=[1, 2])
    error = refusal(path, tokenizer="bytes")
    assert "no column of texts named 'text' (it has: content text, n int64)" in error.reason
    assert "--text-field content" in error.hint
    error = refusal(parquet(tmp_path / "b.parquet", labels=[[1, 2], [3]]), tokenizer="bytes")
    assert "it is labels here" in error.hint
    assert "row 2 has no text" in refusal(parquet(tmp_path / "c.parquet", text=["a", None]), tokenizer="bytes").reason


def test_ids_in_a_parquet_file_are_read_row_by_row(tmp_path):
    import pyarrow

    ids = [[1, 2, 70000], [4, 5, 6]]
    path = parquet(tmp_path / "a.parquet", input_ids=ids, labels=[[0, 0, 0], [0, 0, 0]])
    fixed = parquet(tmp_path / "b.parquet", tokens=pyarrow.array(ids, pyarrow.list_(pyarrow.int32(), 3)))
    for stream in (open_stream(path), open_stream(fixed)):
        assert stream.read(0, len(stream)).tolist() == [1, 2, 70000, 4, 5, 6]
        assert stream.document_starts.tolist() == [0, 3]
    both = parquet(tmp_path / "c.parquet", text=["a", "b"], input_ids=ids)
    assert open_stream(both, tokenizer="bytes", cache_dir=tmp_path / "cache").read(0, 2).tolist() == [97, 98]
    assert "rows without input_ids" in refusal(parquet(tmp_path / "d.parquet", input_ids=[[1], None])).reason


def test_texts_and_ids_of_arrow_are_read_in_each_of_its_layouts(tmp_path):
    """Dictionary-encoded texts come from Categorical columns, fixed-size lists from packed sequences."""
    import pyarrow

    def arrow(name, **columns):
        table = pyarrow.table(columns)
        with pyarrow.ipc.new_file(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
        return tmp_path / name

    words = pyarrow.array(["one", "two", "one"])
    for name, texts in (("dict", words.dictionary_encode()), ("view", words.cast(pyarrow.string_view()))):
        for path in (arrow(f"{name}.arrow", text=texts), parquet(tmp_path / f"{name}.parquet", text=texts)):
            stream = open_stream(path, tokenizer="bytes", cache_dir=tmp_path / "cache")
            assert bytes(stream.read(0, len(stream)).tolist()) == b"onetwoone"
    fixed = arrow("fixed.arrow", input_ids=pyarrow.array([[1, 2], [3, 4], [5, 6]], pyarrow.list_(pyarrow.uint16(), 2)))
    stream = open_stream(fixed)
    assert stream.read(0, 6).tolist() == [1, 2, 3, 4, 5, 6] and stream.document_starts.tolist() == [0, 2, 4]
    error = refusal(arrow("flat.arrow", input_ids=[1, 2, 3]))
    assert "(it has: input_ids int64)" in error.reason and "lists of whole numbers" in error.hint


def test_several_arrays_in_one_npy_file_are_refused(tmp_path):
    """numpy.save to an open file appends an array; numpy.load gives the first one alone."""
    with open(tmp_path / "a.npy", "wb") as file:
        for start in (0, 100):
            np.save(file, np.arange(start, start + 100, dtype=np.uint16))
    error = refusal(tmp_path / "a.npy")
    assert "goes on after the 100 tokens of its header" in error.reason and "numpy.concatenate" in error.hint


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet", text=TEXTS)
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "in a clone of ckptwatch: pip install '.[parquet]'" in refusal(path, tokenizer="bytes").hint


def test_rows_of_an_array_are_joined_and_each_counts_as_a_document(tmp_path):
    ids = np.arange(1, 25, dtype=np.int32).reshape(4, 6)
    np.save(tmp_path / "rows.npy", ids)
    stream = open_stream(tmp_path / "rows.npy")
    assert stream.read(0, 24).tolist() == list(range(1, 25))
    assert stream.document_starts.tolist() == [0, 6, 12, 18]
    assert any("each counts as a document" in note for note in stream.notes)
    np.save(tmp_path / "columns.npy", np.asfortranarray(ids))
    assert "stored by columns" in refusal(tmp_path / "columns.npy").reason


def test_one_id_of_32_bits_alone_is_not_read_as_two_of_16(tmp_path):
    (tmp_path / "val.bin").write_bytes(np.array([4711], dtype="<u4").tobytes())
    error = refusal(tmp_path / "val.bin")
    assert "uint32" in error.reason and "--token-dtype uint32" in error.hint


def test_a_byte_order_mark_and_a_table_are_no_prose(tmp_path):
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfOnce upon a time.\n")
    assert "byte order mark" in refusal(tmp_path / "bom.txt", tokenizer="bytes").reason
    rows = "id,title,text\n" + "".join(f'{i},Title {i},"A text, with a comma."\n' for i in range(9))
    (tmp_path / "table.txt").write_text(rows)
    error = refusal(tmp_path / "table.txt", tokenizer="bytes")
    assert "comma-separated" in error.reason and "--format text" in error.hint
    poem = "Tyger, tyger, burning bright,\nIn the forests, of the, night.\n" * 20
    (tmp_path / "poem.txt").write_text(poem)
    assert len(open_stream(tmp_path / "poem.txt", tokenizer="bytes")) == len(poem)


def test_an_image_is_not_called_utf_16(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert "PNG image" in refusal(tmp_path / "a.txt", tokenizer="bytes").reason
    (tmp_path / "b.txt").write_bytes(b"\x01\x02\x03\x04" + bytes(200))
    assert "UTF-16" not in refusal(tmp_path / "b.txt", tokenizer="bytes").reason
    (tmp_path / "c.txt").write_bytes("Some text.".encode("utf-16-le") * 9)
    assert "UTF-16" in refusal(tmp_path / "c.txt", tokenizer="bytes").reason


def test_a_last_window_of_one_token_is_scored_by_a_model_that_takes_two_at_least():
    """17 tokens are 16 targets; windows of 5 leave one for the last. The value is that of one token of context."""
    torch.manual_seed(0)
    table = torch.randn(11, 11)

    class AtLeastTwo(torch.nn.Module):
        def forward(self, tokens):
            assert tokens.shape[1] > 1
            return table[tokens]

    tokens = torch.randint(0, 11, (17,))
    result = evaluate(wrap(AtLeastTwo(), {}, "cpu"), tokens, seq_len=5, batch_size=2)
    expected = torch.nn.functional.cross_entropy(table[tokens[:-1]].double(), tokens[1:]).item()
    assert (result.tokens, len(result.window_nats)) == (16, 4)
    assert result.loss == pytest.approx(expected, rel=1e-6)
