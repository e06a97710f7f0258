"""Data is never measured as what it is not: each disguise is refused with a remedy, and the remedy works."""

import gzip
import hashlib
import json
import pickle
import re

import numpy as np
import pytest

from evalcore.data import DataError, open_stream, sniff, tokenizers
from evalcore.data.evidence import against_uint16
from evalcore.data.metapickle import read_meta
from evalcore.messages import EvalSetSpec
from tests.support.tokenizers import save_ranks

CHARACTERS = np.random.default_rng(1).integers(0, 65, 1000)
LARGE_IDS = np.random.default_rng(2).integers(0, 70_000, 600)
STORIES = ["Once upon a time there was a cat. ", 'A boat sailed "far" away. ', "The dög ran home. "]


def read(path, **more):
    spec = EvalSetSpec("val", (str(path),), **{"tokenizer": None, **more})
    stream = open_stream(spec, cache_dir=path.parent / "cache")
    return stream.read(0, len(stream)).tolist()


def refusal(path, **more):
    with pytest.raises(DataError) as caught:
        read(path, **more)
    assert str(path) in caught.value.reason and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("ids", "dtype", "remedy"),
    [
        (CHARACTERS, "uint32", "uint32"),
        (CHARACTERS, "int32", "uint32"),
        (CHARACTERS, "int64", "int64"),
        (CHARACTERS, "uint8", "uint8"),
        (LARGE_IDS, "uint32", "uint32"),
        (LARGE_IDS, "int64", "int64"),
        ([5, 9], "uint32", "uint32"),
    ],
)
def test_a_headerless_bin_of_another_type_is_refused_with_the_type_that_reads_it(tmp_path, ids, dtype, remedy):
    path = tmp_path / "val.bin"
    np.asarray(ids).astype(dtype).tofile(path)
    assert f"give --token-dtype {remedy}" in refusal(path)
    assert read(path, token_dtype=remedy) == list(ids)
    assert any(f"--token-dtype {remedy}" in problem for problem in sniff(path).problems)


@pytest.mark.parametrize("vocabulary", [3, 4, 65, 256, 1000, 50257, 65536])
@pytest.mark.parametrize("count", [4, 100, 5001])
def test_real_uint16_tokens_of_any_vocabulary_are_read_without_a_flag(tmp_path, vocabulary, count):
    ids = 1 + np.random.default_rng(count).integers(0, vocabulary, count) % (vocabulary - 1)
    ids[-1] = vocabulary - 1
    ids.astype("<u2").tofile(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin") == ids.tolist()


def test_a_declared_type_is_believed(tmp_path):
    CHARACTERS.astype("<u4").tofile(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin", token_dtype="uint16")[:4] == [CHARACTERS[0], 0, CHARACTERS[1], 0]


@pytest.mark.parametrize("dtype", [">u2", ">u4"])
def test_big_endian_tokens_are_refused(tmp_path, dtype):
    CHARACTERS.astype(dtype).tofile(tmp_path / "val.bin")
    assert "big-endian" in refusal(tmp_path / "val.bin") and "little-endian" in refusal(tmp_path / "val.bin")


def test_a_large_file_is_judged_by_blocks_over_its_whole_length(tmp_path):
    path = tmp_path / "val.bin"
    with open(path, "wb") as file:  # 80 MiB that begin with a hole
        file.seek(64 << 20)
        np.tile(LARGE_IDS, 7000).astype("<u4").tofile(file)
    evidence = against_uint16(path, path.stat().st_size)
    assert evidence is not None and evidence.token_dtype == "uint32"


def test_a_small_file_has_the_type_of_train_bin_beside_it(tmp_path):
    np.array([1, 2, 3], dtype="<u2").tofile(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin") == [1, 2, 3]
    CHARACTERS.astype("<u4").tofile(tmp_path / "train.bin")
    assert "train.bin beside it" in refusal(tmp_path / "val.bin")


@pytest.mark.parametrize("name", ["val.bin", "val.npy", "val.txt", "val.jsonl", "val.json", "val"])
def test_a_git_lfs_pointer_is_refused_under_any_name(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "3b1c" * 16 + "\nsize 1638400\n"
    (tmp_path / name).write_text(pointer)
    assert "Git LFS pointer" in refusal(tmp_path / name) and "git lfs pull" in refusal(tmp_path / name)
    assert "Git LFS pointer" in refusal(tmp_path / name, format="text", tokenizer="bytes")


@pytest.mark.parametrize("name", ["val.bin", "val.npy", "val.txt", "val.jsonl", "val.csv"])
@pytest.mark.parametrize(
    "page", ["<!DOCTYPE html>\n<title>404</title>", "\n <HTML><body>", '<?xml version="1.0"?><Error/>']
)
def test_the_page_of_a_failed_download_is_refused_under_any_name(tmp_path, name, page):
    (tmp_path / name).write_text(page)
    assert "failed download" in refusal(tmp_path / name)


def test_a_page_that_is_meant_as_text_is_text(tmp_path):
    (tmp_path / "page.txt").write_text("<html>a")
    assert bytes(read(tmp_path / "page.txt", format="text", tokenizer="bytes")) == b"<html>a"


@pytest.mark.parametrize("name", ["val.bin", "val.txt", "val.jsonl", "val.json", "val.npy", "val"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"some text", mtime=0), "gzip"),
        (b"PK\x03\x04" + b"\0" * 30, "zip"),
        (b"PAR1" + b"\0" * 30, "Parquet"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 30, "Zstandard"),
        (b"SQLite format 3\0" + b"\0" * 30, "SQLite"),
    ],
)
def test_compressed_and_foreign_files_are_known_by_their_bytes_not_their_name(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


def test_text_saved_as_bin_is_refused_and_read_as_text_where_asked(tmp_path):
    path = tmp_path / "val.bin"
    path.write_text("To be, or not to be, thät is the question. " * 20, encoding="utf-8")
    assert "UTF-8 text" in refusal(path) and "--format text" in refusal(path)
    assert bytes(read(path, format="text", tokenizer="bytes")) == path.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_text_is_refused(tmp_path, encoding):
    (tmp_path / "val.txt").write_bytes(("Some text in wide characters. " * 9).encode(encoding))
    assert "UTF-16" in refusal(tmp_path / "val.txt", tokenizer="bytes")
    assert "iconv" in refusal(tmp_path / "val.txt", tokenizer="bytes")


@pytest.mark.parametrize("content", ["", " \n\t \n"])
def test_text_without_text_is_refused(tmp_path, content):
    (tmp_path / "val.txt").write_text(content)
    assert re.search("is empty|holds no text", refusal(tmp_path / "val.txt", tokenizer="bytes"))


def test_tables_are_refused_unless_they_are_meant_as_text(tmp_path):
    (tmp_path / "val.csv").write_text("id,text\n1,hello\n")
    assert "table" in refusal(tmp_path / "val.csv", tokenizer="bytes")
    assert bytes(read(tmp_path / "val.csv", format="text", tokenizer="bytes")) == b"id,text\n1,hello\n"


def jsons(folder):
    """name -> content: the same three documents in every spelling that is read."""
    rows = [{"text": story, "id": 1} for story in STORIES]
    return {
        "array.json": json.dumps(rows),
        "pretty.json": json.dumps(rows, indent=2),
        "strings.json": json.dumps(STORIES, ensure_ascii=False),
        "lines.json": "\n".join(map(json.dumps, rows)),
        "lines.jsonl": "\n".join(map(json.dumps, rows)),
        "strings.jsonl": "\n".join(map(json.dumps, STORIES)),
    }


@pytest.mark.parametrize("name", jsons(None))
def test_of_json_the_texts_alone_are_measured(tmp_path, name):
    (tmp_path / name).write_text(jsons(tmp_path)[name], encoding="utf-8")
    assert bytes(read(tmp_path / name, tokenizer="bytes")) == "".join(STORIES).encode()


@pytest.mark.parametrize("name", ["stories.json", "stories.jsonl"])
def test_another_field_is_named_with_the_flag_that_reads_it(tmp_path, name):
    rows = [{"story": story} for story in STORIES]
    (tmp_path / name).write_text(json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows)))
    assert "give --text-field story" in refusal(tmp_path / name, tokenizer="bytes")
    assert bytes(read(tmp_path / name, tokenizer="bytes", text_field="story")) == "".join(STORIES).encode()
    assert any("--text-field story" in problem for problem in sniff(tmp_path / name).problems)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ids.jsonl", '{"input_ids": [1, 2, 3]}\n', "token ids"),
        ("ids.json", "[1, 2, 3]", "int"),
        ("rows.jsonl", "[1, 2, 3]\n[4, 5]\n", "token ids"),
        ("split.json", json.dumps({"train": STORIES, "val": STORIES}), "train, val"),
        ("split2.json", json.dumps({"train": STORIES}, indent=1), "one JSON object"),
        ("broken.json", '[{"text": "a"}, ', "not JSON"),
        ("prose.json", "This is prose.", "no JSON"),
        ("lines.txt", '{"text": "a"}\n{"text": "b"}\n', "--format jsonl"),
        ("array.txt", json.dumps([{"text": "a"}]), "--format json"),
        ("lines", '{"text": "a"}\n{"text": "b"}\n', "--format jsonl"),
    ],
)
def test_json_that_holds_no_documents_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    assert words in refusal(tmp_path / name, tokenizer="bytes")


@pytest.mark.parametrize(
    "prose", ["[1] A footnote.\n", "[1]\nmore\n", '"Stop!"\nshe said.\n', "{\nint main;\n", '["quoted] prose']
)
def test_prose_that_begins_like_json_stays_prose(tmp_path, prose):
    (tmp_path / "val.txt").write_text(prose)
    assert bytes(read(tmp_path / "val.txt", tokenizer="bytes")) == prose.encode()


def test_a_text_declared_json_lines_is_read_as_such(tmp_path):
    (tmp_path / "lines.txt").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert bytes(read(tmp_path / "lines.txt", tokenizer="bytes", format="jsonl")) == b"ab"


@pytest.mark.parametrize("name", ["val.bin", "val.npy"])
def test_tokens_that_are_all_zero_are_refused(tmp_path, name):
    np.save(tmp_path / "val.npy", np.zeros(100, dtype=np.uint16))
    np.zeros(100, dtype=np.uint16).tofile(tmp_path / "val.bin")
    assert "never filled" in refusal(tmp_path / name)


def test_a_long_tail_of_zeros_is_refused_with_the_number_of_tokens_before_it(tmp_path):
    ids = np.concatenate([CHARACTERS + 1, np.zeros(5000)]).astype("<u2")
    ids.tofile(tmp_path / "val.bin")
    assert "the last 5000 of 6000 tokens" in refusal(tmp_path / "val.bin")
    assert "--max-tokens 1000" in refusal(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin", max_tokens=1000) == (CHARACTERS + 1).tolist()
    assert len(read(tmp_path / "val.bin", max_tokens=6000)) == 6000


def test_a_headerless_npy_is_refused_with_its_likely_type(tmp_path):
    CHARACTERS.astype("<u4").tofile(tmp_path / "part-0.npy")
    assert "probably --token-dtype uint32" in refusal(tmp_path / "part-0.npy")
    assert read(tmp_path / "part-0.npy", token_dtype="uint32") == CHARACTERS.tolist()


def test_meta_pkl_of_other_data_gives_no_bytes_per_token(tmp_path):
    CHARACTERS.astype("<u2").tofile(tmp_path / "val.bin")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {i: chr(97 + i) for i in range(10)}}))
    stream = open_stream(tmp_path / "val.bin")
    assert stream.id_bytes is None and "id 64 is not among the 10 of meta.pkl" in stream.notes[0]
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {i: chr(0x400 + i) for i in range(65)}}))
    assert open_stream(tmp_path / "val.bin").target_bytes(np.array([1, 2])).tolist() == [2, 2]
    CHARACTERS.astype("<u4").tofile(tmp_path / "val.bin")  # the same, whatever the type of the ids
    assert open_stream(EvalSetSpec("v", (str(tmp_path / "val.bin"),), token_dtype="uint32")).id_bytes is not None


@pytest.mark.parametrize(("name", "words"), [("VAL.CSV", "table"), ("VAL.JSON", "token ids"), ("VAL.BIN", "uint32")])
def test_names_in_capitals_are_read_by_the_same_rules(tmp_path, name, words):
    contents = {"VAL.CSV": b"id,text\n1,a\n", "VAL.JSON": b'[{"ids": [1, 2]}]', "VAL.BIN": CHARACTERS.astype("<u4")}
    (tmp_path / name).write_bytes(bytes(contents[name]))
    assert words in refusal(tmp_path / name, tokenizer="bytes")


@pytest.mark.parametrize("name", ["notebook.ipynb", "stories.txt", "stories"])
def test_json_over_several_lines_is_no_prose_under_any_name(tmp_path, name):
    (tmp_path / name).write_text(json.dumps([{"text": story} for story in STORIES], indent=1))
    assert "JSON array" in refusal(tmp_path / name, tokenizer="bytes")
    (tmp_path / name).write_text(json.dumps({"cells": STORIES}, indent=1))
    assert "JSON object" in refusal(tmp_path / name, tokenizer="bytes")


def test_a_pytorch_file_of_the_older_format_is_no_token_file(tmp_path):
    import torch

    torch.save({"a": torch.ones(50)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert "PyTorch" in refusal(tmp_path / "pytorch_model.bin")
    torch.save({"a": torch.ones(50)}, tmp_path / "model.bin")
    assert "zip archive" in refusal(tmp_path / "model.bin")


def test_a_ranks_file_without_its_pattern_says_what_was_assumed(tmp_path, monkeypatch):
    ranks = save_ranks(tmp_path / "own.tiktoken", "".join(STORIES), merges=20)
    (tmp_path / "val.txt").write_text(STORIES[0])
    stream = open_stream(tmp_path / "val.txt", tokenizer=str(ranks), cache_dir=tmp_path / "cache")
    assert stream.notes == [
        "tokenizer own.tiktoken: GPT-2's pattern and end of text assumed where own.tiktoken.json has none"
    ]
    settings = {"pattern": tokenizers.GPT2_PATTERN, "special_tokens": {"<|endoftext|>": 300}}
    (tmp_path / "own.tiktoken.json").write_text(json.dumps(settings))
    assert open_stream(tmp_path / "val.txt", tokenizer=str(ranks), cache_dir=tmp_path / "cache").notes == []
    (tmp_path / "own.tiktoken.json").unlink()
    digest = hashlib.sha256(ranks.read_bytes()).hexdigest()
    monkeypatch.setitem(tokenizers._OTHER_PATTERN, digest, "cl100k_base")
    with pytest.raises(DataError, match="give --tokenizer cl100k_base, or write pattern and special_tokens"):
        tokenizers.build_tokenizer(str(ranks))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", ">f4", ">f8"])
def test_ids_saved_as_floating_point_numbers_are_refused(tmp_path, dtype):
    CHARACTERS.astype(dtype).tofile(tmp_path / "val.bin")
    assert "ids saved as floating-point" in refusal(tmp_path / "val.bin")


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
def test_weights_and_logits_are_no_tokens(tmp_path, dtype):
    np.random.default_rng(0).normal(0, 0.5, 3000).astype(dtype).tofile(tmp_path / "val.bin")
    assert "ordinary numbers as float" in refusal(tmp_path / "val.bin")


def test_big_endian_tokens_of_a_large_vocabulary_are_refused(tmp_path):
    words = np.minimum(np.random.default_rng(0).zipf(1.3, 5000), 50256)
    words.astype(">u2").tofile(tmp_path / "val.bin")
    assert "big-endian" in refusal(tmp_path / "val.bin")
    words.astype("<u2").tofile(tmp_path / "val.bin")
    assert read(tmp_path / "val.bin") == words.tolist()


def test_one_id_throughout_or_to_the_end_is_refused(tmp_path):
    np.full(3000, 50256).astype("<u2").tofile(tmp_path / "val.bin")
    assert "every token of" in refusal(tmp_path / "val.bin") and "50256" in refusal(tmp_path / "val.bin")
    np.concatenate([CHARACTERS, np.full(2000, 7)]).astype("<u2").tofile(tmp_path / "val.bin")
    assert f"give --max-tokens {len(CHARACTERS)}" in refusal(tmp_path / "val.bin")


@pytest.mark.parametrize("odd", [{}, {5: b"f"}, {5: None}])
def test_meta_pkl_without_a_text_for_every_id_gives_no_bits_per_byte(tmp_path, odd):
    CHARACTERS.astype("<u2").tofile(tmp_path / "val.bin")
    itos = {number: chr(48 + number) for number in range(65) if number != 5} | odd
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65, "itos": itos}))
    stream = open_stream(EvalSetSpec("val", (str(tmp_path / "val.bin"),)))
    assert stream.id_bytes is None and "no text for 1 of 65 ids" in stream.notes[-1]
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65, "itos": {**itos, 5: "5"}}))
    assert open_stream(EvalSetSpec("val", (str(tmp_path / "val.bin"),))).id_bytes is not None


def test_the_text_of_ids_can_be_written_whatever_meta_pkl_holds(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 3, "itos": {0: "a", 1: "\ud800"}}))
    meta = read_meta(tmp_path / "meta.pkl")
    assert meta is not None and meta.decode([0, 1, 2]) == "a?<|id 2|>"


@pytest.mark.parametrize(
    ("vocabulary", "noted"), [(256, False), (384, False), (832, False), (833, True), (50304, True), (255, True)]
)
def test_a_tokenizer_whose_vocabulary_cannot_be_the_model_s_is_noted(tmp_path, vocabulary, noted):
    """384 is ByT5's: 256 bytes, 3 specials, 125 reserved. A model trained by gpt2's tokenizer has 50257 or 50304."""
    (tmp_path / "a.txt").write_text("To be or not to be.\n" * 3)
    stream = open_stream(tmp_path / "a.txt", tokenizer="bytes", cache_dir=tmp_path / "cache").for_vocabulary(vocabulary)
    notes = [f"tokenizer bytes has 256 ids, the model {vocabulary}: it is probably not the model's own"]
    assert stream.notes == (notes if noted else [])
    assert stream.id_bytes is not None  # the text is as it was tokenised, so its bytes are known
