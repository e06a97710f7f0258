"""Text becomes the same tokens whole or in pieces, once per tokenizer and content."""

import gzip
import json
import os
import random

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from evalcore.data import DataError, open_stream, textcache
from evalcore.data.chunking import chunks
from evalcore.data.tokenizers import GPT2_PATTERN, build_tokenizer
from evalcore.data_digest import digest_files
from evalcore.measure.evaluate import evaluate
from evalcore.messages import EvalSetSpec
from tests.support.models import SmallModel
from tests.support.tokenizers import CL100K_LIKE, save_ranks, train_ranks

PROSE = (
    "It's the old story: the cat sat on the mat, they'll say, in 1984 or 2001.\nThe end?\n\n  No — d'être, 猫が好き。\n"
    * 3
)
PIECES = ["a", "The", "'ll", " ", "  ", "\n", "\n\n", "\r\n", "é", "猫", "42", "...", "/", "²", "<|endoftext|>", "\t"]
ENCODINGS = [
    tiktoken.Encoding("t", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)})
    for pattern in (GPT2_PATTERN, CL100K_LIKE)
    for ranks in [train_ranks(PROSE, 120, pattern)]
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.integers(2, 20), st.integers(1, 9))
def test_tokens_do_not_depend_on_where_a_text_is_cut(words, chunk_chars, block):
    text = "".join(words)
    blocks = [text[i : i + block] for i in range(0, len(text), block)]
    parts = list(chunks(blocks, chunk_chars))
    assert "".join(parts) == text
    for encoding in ENCODINGS:
        whole = encoding.encode(text, allowed_special="all")
        assert [i for part in parts for i in encoding.encode(part, allowed_special="all")] == whole


def test_long_prose_is_really_cut():
    assert len(list(chunks([PROSE * 50], 500))) > 15


def test_each_file_is_followed_by_eos_and_blank_files_are_skipped(tmp_path):
    ranks = save_ranks(tmp_path / "small.tiktoken", PROSE)
    (tmp_path / "a.txt").write_text("The cat<|endoftext|>sat")
    (tmp_path / "b.txt").write_text(" \n\t\n")
    (tmp_path / "c.txt").write_text("on the mat")
    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    stream = open_stream(files, tokenizer=str(ranks), cache_dir=tmp_path / "cache")
    tokenizer = build_tokenizer(str(ranks))
    eos = tokenizer.eos_id
    expected = [*tokenizer.encode("The cat<|endoftext|>sat"), eos, *tokenizer.encode("on the mat"), eos]
    assert stream.read(0, len(stream)).tolist() == expected
    assert expected.count(eos) == 3  # the literal one is one token
    assert stream.document_starts.tolist() == [0, expected.index(eos, expected.index(eos) + 1) + 1]
    counts = stream.target_bytes(np.array(expected))
    assert counts[counts > 0].sum() == len("The catsaton the mat") and (counts[np.array(expected) == eos] == -1).all()


def test_bytes_are_the_text_as_it_is(tmp_path):
    text = "naïve\r\n猫\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    plain = open_stream(tmp_path / "a.txt", tokenizer="bytes", cache_dir=tmp_path)
    assert plain.read(0, len(plain)).tolist() == list(text.encode())
    ended = open_stream(tmp_path / "a.txt", tokenizer="bytes+eos", cache_dir=tmp_path)
    assert ended.read(0, len(ended)).tolist() == [*text.encode(), 256]


def test_jsonl_documents_are_rows(tmp_path):
    rows = [{"text": "one"}, {"text": "  "}, {"text": "t\ud800wo"}]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    stream = open_stream(tmp_path / "d.jsonl", tokenizer="bytes+eos", cache_dir=tmp_path)
    assert stream.read(0, len(stream)).tolist() == [*b"one", 256, *"t\ufffdwo".encode(), 256]
    assert stream.document_starts.tolist() == [0, 4]
    spec = EvalSetSpec("d", (str(tmp_path / "d.jsonl"),), tokenizer="bytes", text_field="body")
    with pytest.raises(DataError, match="line 1 has no text in field 'body'"):
        open_stream(spec, cache_dir=tmp_path)
    (tmp_path / "d.jsonl").write_text('{"text": "one"}\n{"text": ')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        open_stream(tmp_path / "d.jsonl", tokenizer="bytes", cache_dir=tmp_path)


def test_text_is_tokenised_once_per_content_and_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(PROSE)
    written = []
    real = textcache._write
    monkeypatch.setattr(textcache, "_write", lambda *a: (written.append(a[1]), real(*a)))
    for name in ("a.txt", "copy.txt"):
        (tmp_path / name).write_text(PROSE)
        open_stream(tmp_path / name, tokenizer="bytes", cache_dir=tmp_path / "cache")
    assert len(written) == 1
    assert len(open_stream(tmp_path / "a.txt", tokenizer="bytes", max_tokens=50, cache_dir=tmp_path / "cache")) == 50
    assert len(written) == 1  # the whole one serves
    open_stream(tmp_path / "a.txt", tokenizer="bytes+eos", cache_dir=tmp_path / "cache")
    (tmp_path / "a.txt").write_text(PROSE + "more")
    open_stream(tmp_path / "a.txt", tokenizer="bytes", cache_dir=tmp_path / "cache")
    assert len(written) == 3
    assert not [name for name in os.listdir(tmp_path / "cache") if name.startswith(".")]


def test_a_half_written_cache_is_made_again(tmp_path):
    (tmp_path / "a.txt").write_text(PROSE)
    first = open_stream(tmp_path / "a.txt", tokenizer="bytes", cache_dir=tmp_path / "cache")
    ids = first.read(0, len(first)).tolist()
    (tokens,) = (tmp_path / "cache").glob("*.tokens")
    tokens.write_bytes(tokens.read_bytes()[:100])
    again = open_stream(tmp_path / "a.txt", tokenizer="bytes", cache_dir=tmp_path / "cache")
    assert again.read(0, len(again)).tolist() == ids


def test_max_tokens_stops_tokenising_early(tmp_path):
    (tmp_path / "big.txt").write_text("the cat sat on the mat " * 200_000)
    seen = []
    stream = open_stream(
        tmp_path / "big.txt",
        tokenizer="bytes",
        max_tokens=1000,
        cache_dir=tmp_path / "c",
        report=lambda *now: seen.append(now),
    )
    assert len(stream) == 1000 and [phase for phase, _, _ in seen].count("tokenising") == 2


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz"])
def test_tokenising_tells_how_far_it_is_in_bytes_of_the_file(tmp_path, kind):
    path, seen = tmp_path / f"big.{kind}", []
    noise = random.Random(1)  # hardly compressible: gzip reads 128 KiB at once from Python 3.12 on
    lines = "".join(json.dumps({"text": noise.randbytes(1500).hex()}) + "\n" for _ in range(2000))
    text = "the cat sat on the mat\n" * 200_000 if kind == "txt" else lines
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    size = path.stat().st_size
    open_stream(path, tokenizer="bytes", cache_dir=tmp_path / "c", report=lambda *now: seen.append(now))
    done = [now for now in seen if now[0] == "tokenising"]
    assert done[0] == ("tokenising", 0, size) and done[-1] == ("tokenising", size, size)
    assert [at for _, at, _ in done] == sorted(at for _, at, _ in done)
    assert any(0 < at < size for _, at, _ in done)
    assert [now for now in seen if now[0] == "hashing"][-1] == ("hashing", size, size)


def test_with_max_tokens_the_bytes_in_all_are_what_those_tokens_will_need(tmp_path):
    (tmp_path / "big.txt").write_text("the cat sat on the mat " * 400_000)
    seen = []
    open_stream(
        tmp_path / "big.txt", tokenizer="bytes", max_tokens=2_000_000, cache_dir=tmp_path / "c",
        report=lambda *now: seen.append(now),
    )  # fmt: skip
    done = [now for now in seen if now[0] == "tokenising"][1:]
    assert all(total < 5_000_000 < (tmp_path / "big.txt").stat().st_size for _, _, total in done)
    assert done[-1][1] == done[-1][2]


def test_content_that_changed_since_it_was_registered_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one two")
    spec = EvalSetSpec("a", (str(path),), tokenizer="bytes", data_digest=digest_files([str(path)]))
    assert len(open_stream(spec, cache_dir=tmp_path)) == 7
    path.write_text("one two three")
    with pytest.raises(DataError, match="changed since"):
        open_stream(spec, cache_dir=tmp_path)


def test_broken_text_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("déjà".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        open_stream(tmp_path / "latin.txt", tokenizer="bytes", cache_dir=tmp_path)
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="holds no text"):
        open_stream(tmp_path / "blank.txt", tokenizer="bytes", cache_dir=tmp_path)
    np.save(tmp_path / "a.npy", np.arange(5))
    with pytest.raises(DataError, match="mixes text and token files"):
        open_stream([tmp_path / "a.npy", tmp_path / "blank.txt"], tokenizer="bytes")


def test_missing_ranks_name_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "nothing"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    with pytest.raises(DataError, match=r"TIKTOKEN_CACHE_DIR.*`bytes`"):
        build_tokenizer("gpt2")
    with pytest.raises(DataError, match="use bytes, one of"):
        build_tokenizer("gpt5000")
    (tmp_path / "bad.tiktoken").write_text("YQ== 0\n")
    with pytest.raises(DataError, match="lacks some byte"):
        build_tokenizer(str(tmp_path / "bad.tiktoken"))
    with pytest.raises(DataError, match="does not exist"):
        build_tokenizer(str(tmp_path / "gone.tiktoken"))


def test_token_files_know_their_bytes_through_a_named_tokenizer(tmp_path):
    ranks = save_ranks(tmp_path / "small.tiktoken", PROSE)
    tokenizer = build_tokenizer(str(ranks))
    ids = [*tokenizer.encode("The cat"), tokenizer.eos_id, *tokenizer.encode(" sat"), tokenizer.eos_id]
    np.save(tmp_path / "val.npy", np.array(ids, dtype=np.uint16))
    stream = open_stream(tmp_path / "val.npy", tokenizer=str(ranks))
    counts = stream.target_bytes(stream.read(0, len(stream)))
    assert counts[counts > 0].sum() == len("The cat sat")
    assert stream.document_starts.tolist() == [0, ids.index(tokenizer.eos_id) + 1]


def test_a_hugging_face_tokenizer_file_is_read(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator([PROSE], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text(PROSE)
    stream = open_stream(tmp_path / "a.txt", tokenizer=str(tmp_path / "tokenizer.json"), cache_dir=tmp_path)
    ids = stream.read(0, len(stream))
    assert ids.tolist() == [*made.encode(PROSE).ids, made.token_to_id("<|endoftext|>")]
    counts = stream.target_bytes(ids)
    assert counts[counts > 0].sum() == len(PROSE.encode()) and counts[-1] == -1


@pytest.mark.parametrize("prefix", ["normalizer", "metaspace", None])
def test_a_sentencepiece_like_tokenizer_counts_every_byte_of_the_text(tmp_path, prefix):
    """Llama's and Mistral's tokenizer.json: spaces as U+2581, one before each document, unknown bytes as <0x..>."""
    tokenizers = pytest.importorskip("tokenizers")
    space = "\u2581"
    words = [*"abdehlnortw", space, "th", "the", space + "th", space + "the", "or", "wor", space + "wor"]
    vocab = {"<unk>": 0, "</s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    vocab |= {word: 258 + index for index, word in enumerate(words)}
    merges = [("t", "h"), ("th", "e"), (space, "th"), (space, "the"), ("o", "r"), ("w", "or"), (space, "wor")]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    normal = tokenizers.normalizers
    if prefix == "metaspace":
        made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(space, prepend_scheme="first", split=False)
    else:
        steps = [normal.Prepend(space)] if prefix else []
        made.normalizer = normal.Sequence([*steps, normal.Replace(" ", space)])
    made.add_special_tokens(["<unk>", "</s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    texts = ["the world", "the häßlich\n\tone 😀", "lone"]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "rows.jsonl").write_text(rows)
    stream = open_stream(tmp_path / "rows.jsonl", tokenizer=str(tmp_path / "tokenizer.json"), cache_dir=tmp_path)
    first = int(stream.id_bytes[stream.read(0, 1)][0]) - (1 if prefix else 0)  # the first token is no target
    result = evaluate(SmallModel(vocab_size=400), stream, seq_len=5, stride=3)
    assert result.bytes == sum(len(text.encode()) for text in texts) - first
    assert result.bits_per_byte is not None and result.note is None


def _byte_level(space=False):
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: index for index, text in enumerate([*alphabet, "<|endoftext|>"])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=space)
    made.add_special_tokens(["<|endoftext|>"])
    return made


def test_a_limit_and_padding_saved_in_a_tokenizer_file_do_not_touch_the_text(tmp_path):
    """A trainer's last batch leaves them in tokenizer.json; transformers switches both off for a call without them."""
    made = _byte_level()
    made.enable_truncation(8)
    made.enable_padding(length=64)
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text(PROSE)
    stream = open_stream(tmp_path / "a.txt", tokenizer=str(tmp_path / "tokenizer.json"), cache_dir=tmp_path)
    assert len(stream) == len(PROSE.encode()) + 1  # byte by byte, and the end of the text
    assert build_tokenizer(str(tmp_path)).encode("the cat sat on").tolist() == [
        made.token_to_id(letter.replace(" ", "\u0120")) for letter in "the cat sat on"
    ]


@pytest.mark.parametrize("space", [False, True])
def test_two_files_of_a_tokenizer_that_disagree_on_the_first_space_are_refused(tmp_path, space):
    _byte_level(space).save(str(tmp_path / "tokenizer.json"))
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"add_prefix_space": space}))
    assert len(build_tokenizer(str(tmp_path)).encode("a")) == 1 + space
    config.write_text(json.dumps({"add_prefix_space": not space}))
    with pytest.raises(DataError, match=f"add_prefix_space {space}, and tokenizer_config.json beside it {not space}"):
        build_tokenizer(str(tmp_path))


def test_a_file_without_a_known_ending_says_how_it_was_read_and_others_do_not(tmp_path):
    for name in ("train.log", "val.txt"):
        (tmp_path / name).write_text("hello world\n" * 3)
    stream = open_stream(tmp_path / "train.log", tokenizer="bytes")
    assert "train.log: read as plain text, 36 bytes, 36 tokens by bytes" in stream.notes
    assert not any("read as plain text" in note for note in open_stream(tmp_path / "val.txt", tokenizer="bytes").notes)
