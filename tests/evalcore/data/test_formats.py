"""What each data file is taken for, and the sentence for those that are not read."""

import gzip
import json
import pickle
import struct

import numpy as np
import pytest
import tiktoken

from evalcore.data import DataError, open_stream, sniff
from evalcore.messages import EvalSetSpec
from tests.support.tasks import rows_of, write_rows

IDS = np.array([5, 1, 2, 3, 900, 7, 7, 0], dtype=np.int64)


def _llmc(path, magic, version, dtype):
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(IDS)
    path.write_bytes(header.tobytes() + IDS.astype(dtype).tobytes())
    return path


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32", "int64", ">u2"])
def test_npy_of_any_integer_type_is_read(tmp_path, dtype):
    np.save(tmp_path / "val.npy", IDS.astype(dtype))
    stream = open_stream(tmp_path / "val.npy")
    assert stream.read(0, len(stream)).tolist() == IDS.tolist()
    assert isinstance(stream.parts[0], np.memmap)


def test_headerless_npy_needs_its_token_type(tmp_path):
    path = tmp_path / "part-0.npy"
    path.write_bytes(IDS.astype("<u4").tobytes())
    with pytest.raises(DataError, match="token_dtype"):
        open_stream(path)
    stream = open_stream(EvalSetSpec("olmo", (str(path),), token_dtype="uint32"))
    assert stream.read(0, len(stream)).tolist() == IDS.tolist()


def test_nanogpt_bin_is_uint16(tmp_path):
    (tmp_path / "val.bin").write_bytes(IDS.astype("<u2").tobytes())
    assert open_stream(tmp_path / "val.bin").read(0, 8).tolist() == IDS.tolist()


@pytest.mark.parametrize(("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")])
def test_llmc_shards_are_read_past_their_header(tmp_path, magic, version, dtype):
    path = _llmc(tmp_path / "fineweb_val_000000.bin", magic, version, dtype)
    assert open_stream(path).read(0, 8).tolist() == IDS.tolist()
    with open(path, "ab") as file:
        file.write(b"xx")
    with pytest.raises(DataError, match="promises 8 tokens"):
        open_stream(path)


def test_several_files_and_globs_make_one_stream(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"val_{i}.npy", (IDS + i).astype(np.uint16))
    whole = np.concatenate([IDS, IDS + 1, IDS + 2]).tolist()
    stream = open_stream([tmp_path / "val_*.npy"])
    assert stream.read(0, 24).tolist() == whole and stream.read(6, 18).tolist() == whole[6:18]
    assert len(open_stream([tmp_path / "val_*.npy"], max_tokens=10)) == 10
    assert stream.id_range == (0, 902)


def _foreign(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    (tmp_path / "megatron.bin").write_bytes(b"\1\0" * 50)
    (tmp_path / "megatron.idx").write_bytes(b"MMIDIDX\0\0" + b"\0" * 30)
    (tmp_path / "eval.bin").write_bytes(np.array([20240522] + [0] * 400, dtype="<i4").tobytes())
    (tmp_path / "weights.bin").write_bytes(np.array([20240326] + [0] * 400, dtype="<i4").tobytes())
    (tmp_path / "odd.bin").write_bytes(b"abc")
    (tmp_path / "empty.txt").write_bytes(b"")
    np.save(tmp_path / "three.npy", np.zeros((2, 3, 4), dtype=np.uint16))
    np.save(tmp_path / "floats.npy", np.zeros(5))
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    np.save(tmp_path / "cut.npy", np.zeros(100, dtype=np.uint16))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    for name, content in (
        ("mds", {"version": 2, "shards": [{"format": "mds"}]}),
        ("lit", {"chunks": []}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(json.dumps(content))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "dataset_info.json").write_text("{}")
    (tmp_path / "hf" / "state.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    return {
        "a.parquet": "Parquet file that is cut off",
        "megatron.bin": "Megatron", "megatron.idx": "Megatron", "eval.bin": "llm.c eval",
        "weights.bin": "llm.c GPT-2 weights", "odd.bin": "odd number", "empty.txt": "is empty", "three.npy": "shape",
        "floats.npy": "float64", "objects.npy": "not token ids", "arrays.npz": "zip", "cut.npy": "cut off",
        "mds": "MosaicML", "lit": "LitData", "hf": "Hugging Face", "folder": "folder", "gone.npy": "does not exist",
    }  # fmt: skip


def test_every_other_format_is_answered_in_one_sentence(tmp_path):
    for name, words in _foreign(tmp_path).items():
        with pytest.raises(DataError, match=words) as caught:
            open_stream(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bin_that_begins_like_a_header_by_chance_is_still_tokens(tmp_path):
    ids = np.frombuffer(struct.pack("<i", 20240520), dtype="<u2").tolist() + [9] * 600
    (tmp_path / "val.bin").write_bytes(np.array(ids, dtype="<u2").tobytes())
    assert open_stream(tmp_path / "val.bin").n_tokens == 602


def test_meta_pkl_tells_bytes_per_character_and_is_never_run(tmp_path):
    text = "héllo"
    stoi = {c: i for i, c in enumerate(sorted(set(text)))}
    meta = {"vocab_size": len(stoi), "itos": {i: c for c, i in stoi.items()}, "stoi": stoi}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    (tmp_path / "val.bin").write_bytes(np.array([stoi[c] for c in text], dtype="<u2").tobytes())
    assert open_stream(tmp_path / "val.bin").target_bytes(np.array([stoi["é"], stoi["l"]])).tolist() == [2, 1]
    assert sniff(tmp_path / "val.bin").vocab_size == 4

    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": Hostile()}))
    assert open_stream(tmp_path / "val.bin").id_bytes is None and not canary.exists()


def test_sniff_counts_and_names_what_is_wrong(tmp_path):
    np.save(tmp_path / "zeros.npy", np.zeros(3000, dtype=np.uint16))
    assert any("never filled" in problem for problem in sniff(tmp_path / "zeros.npy").problems)
    np.save(tmp_path / "val.npy", IDS.astype(np.uint16))
    found = sniff(tmp_path / "val.npy", vocab_size=512, seq_len=64)
    assert (found.kind, found.tokens, found.largest_id, found.dtype) == ("npy", 8, 900, "uint16")
    assert any("900" in p and "512" in p for p in found.problems) and any("shorter" in p for p in found.problems)
    with gzip.open(tmp_path / "docs.jsonl.gz", "wt") as file:
        file.write('{"text": "one"}\n\n{"text": "two!"}\n')
    found = sniff(tmp_path / "docs.jsonl.gz", tokenizer="bytes", cache_dir=tmp_path / "cache", seq_len=4)
    assert (found.tokens, found.documents, found.text_bytes, found.problems) == (7, 2, 7, [])
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(40))
    assert sniff(tmp_path / "a.parquet").kind == "foreign" and sniff(tmp_path / "a.parquet").problems
    with pytest.raises(DataError, match="does not exist"):
        sniff(tmp_path / "gone")


def test_items_of_a_task_are_sniffed_as_that_task_and_counted(tmp_path):
    path = write_rows(tmp_path / "val.jsonl", rows_of("hellaswag", 5))
    sniffed = sniff(path)
    assert (sniffed.kind, sniffed.task, sniffed.items, sniffed.problems) == ("task", "hellaswag", 5, [])
    both = sniff(write_rows(tmp_path / "both.jsonl", [row | {"text": "t"} for row in rows_of("piqa", 2)]))
    assert "give --task NAME, or --format jsonl" in both.problems[0]
    assert sniff(tmp_path / "both.jsonl", format="jsonl").kind == "jsonl"


def test_a_mistyped_tokenizer_of_a_token_file_is_refused_and_one_that_is_not_cached_costs_only_the_bits(
    tmp_path, monkeypatch
):
    path = tmp_path / "val.npy"
    np.save(path, np.arange(200, dtype=np.uint16))
    with pytest.raises(DataError, match="tokenizer 'byte' is not known"):
        open_stream(EvalSetSpec("val", (str(path),), tokenizer="byte"))
    with pytest.raises(DataError, match="does not exist"):
        open_stream(EvalSetSpec("val", (str(path),), tokenizer=str(tmp_path / "absent.tiktoken")))

    def no_network(name):
        raise OSError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", no_network)
    stream = open_stream(EvalSetSpec("val", (str(path),), tokenizer="cl100k_base"))
    assert stream.n_tokens == 200 and any("are not cached here" in note for note in stream.notes)


def test_a_bundle_of_tasks_given_as_data_is_answered_with_the_flag_that_takes_it(tmp_path):
    (tmp_path / "core.yaml").touch()
    with pytest.raises(DataError) as caught:
        open_stream(EvalSetSpec("val", (str(tmp_path),)))
    assert "is a bundle of tasks" in caught.value.reason and f"--suite {tmp_path}" in caught.value.hint


def test_a_headerless_file_that_begins_with_the_first_two_bytes_of_gzip_is_tokens(tmp_path):
    ids = np.array([0x8B1F, 5, 9, *range(1, 200)], dtype="<u2")
    ids.tofile(tmp_path / "val.bin")
    stream = open_stream(EvalSetSpec("val", (str(tmp_path / "val.bin"),), token_dtype="uint16"))
    assert stream.read(0, 3).tolist() == [0x8B1F, 5, 9]
