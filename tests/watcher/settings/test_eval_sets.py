"""What an eval digest covers: everything about the data that moves the number, and nothing else."""

import os
import pickle

import pytest

from evalcore import messages
from watcher.errors import ConfigError
from watcher.settings.eval_sets import changed_files, resolve_sets
from watcher.settings.schema import EvalSettings


@pytest.fixture
def resolve(tmp_path):
    def one(data, **more):
        section = EvalSettings(name="val", data=(str(data),), **more)
        return resolve_sets((section,), tmp_path / "digests.json")[0]

    return one


def test_the_same_bytes_under_another_suffix_are_another_measurement(tmp_path, resolve):
    for name in ("val.bin", "val.txt", "val.jsonl", "other.bin"):
        (tmp_path / name).write_bytes(b"To be, or not to be. " * 4)
    as_bin, as_text, as_lines = (resolve(tmp_path / f"val.{suffix}").digest() for suffix in ("bin", "txt", "jsonl"))
    assert len({as_bin, as_text, as_lines}) == 3
    assert resolve(tmp_path / "other.bin").digest() == as_bin  # neither name nor folder moves the number
    assert resolve(tmp_path / "val.bin", format="text").digest() not in (as_bin, as_lines)
    assert resolve(tmp_path / "val.bin", token_dtype="uint32").digest() != as_bin


def test_meta_pkl_that_comes_later_changes_the_digest_and_is_noticed(tmp_path, resolve):
    (tmp_path / "val.bin").write_bytes(b"\1\0\2\0" * 8)
    before = resolve(tmp_path / "val.bin")
    assert changed_files(before) == []
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: "b", 2: "c"}}))
    assert changed_files(before) == [str(tmp_path / "meta.pkl")]
    after = resolve(tmp_path / "val.bin")
    assert after.digest() != before.digest() and changed_files(after) == []
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: "b", 2: "é"}}))
    assert resolve(tmp_path / "val.bin").digest() != after.digest()
    with_tokenizer = resolve(tmp_path / "val.bin", tokenizer="bytes")  # then meta.pkl is not used
    assert with_tokenizer.meta_digest == "" and str(tmp_path / "meta.pkl") not in with_tokenizer.companions


def test_the_index_of_a_megatron_data_set_counts_and_any_other_idx_file_does_not(tmp_path, resolve):
    (tmp_path / "val.bin").write_bytes(b"\1\0\2\0" * 8)
    index = tmp_path / "val.idx"
    alone = resolve(tmp_path / "val.bin")
    index.write_bytes(b"TFRecord offsets, say")
    assert changed_files(alone) == [str(index)]
    assert resolve(tmp_path / "val.bin").digest() == alone.digest()
    index.write_bytes(b"MMIDIDX\x00\x00 and the rest")
    indexed = resolve(tmp_path / "val.bin")
    assert indexed.digest() != alone.digest() and changed_files(indexed) == []
    index.write_bytes(b"MMIDIDX\x00\x00 and another rest")
    assert changed_files(indexed) == [str(index)] and resolve(tmp_path / "val.bin").digest() != indexed.digest()
    typed = resolve(tmp_path / "val.bin", token_dtype="uint16")  # then the index is not read
    assert str(index) not in typed.companions


def test_every_file_of_a_tokenizer_counts(tmp_path, resolve):
    (tmp_path / "val.txt").write_text("some text")
    folder = tmp_path / "tok"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    first = resolve(tmp_path / "val.txt", tokenizer=str(folder))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    second = resolve(tmp_path / "val.txt", tokenizer=str(folder))
    (folder / "tokenizer.json").write_text('{"model": 1}')
    third = resolve(tmp_path / "val.txt", tokenizer=str(folder))
    assert len({spec.digest() for spec in (first, second, third)}) == 3
    assert changed_files(second) == [str(folder / "tokenizer.json")]
    (tmp_path / "t.tiktoken").write_text("YQ== 0")
    ranks = resolve(tmp_path / "val.txt", tokenizer=str(tmp_path / "t.tiktoken"))
    (tmp_path / "t.tiktoken.json").write_text('{"pattern": "x"}')
    assert resolve(tmp_path / "val.txt", tokenizer=str(tmp_path / "t.tiktoken")).digest() != ranks.digest()
    with pytest.raises(ConfigError, match="no tokenizer file"):
        resolve(tmp_path / "val.txt", tokenizer=str(tmp_path / "gone.json"))


def test_a_folder_named_like_a_tokenizer_does_not_replace_it(tmp_path, resolve, monkeypatch):
    (tmp_path / "val.txt").write_text("some text")
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(tmp_path / "val.txt", tokenizer="gpt2").tokenizer == "gpt2"


def test_data_rewritten_in_place_with_its_old_times_is_noticed(tmp_path, resolve):
    path = tmp_path / "val.bin"
    path.write_bytes(b"\1\0\2\0" * 8)
    spec, status = resolve(path), path.stat()
    with open(path, "r+b") as file:
        file.write(b"\3")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns and path.stat().st_size == status.st_size
    assert changed_files(spec) == [str(path)]
    assert resolve(path).digest() != spec.digest()


def test_a_numerics_version_makes_every_value_be_measured_anew(tmp_path, resolve, monkeypatch):
    (tmp_path / "val.bin").write_bytes(b"\1\0\2\0" * 8)
    before = resolve(tmp_path / "val.bin").digest()
    monkeypatch.setattr(messages, "NUMERICS_VERSION", messages.NUMERICS_VERSION + 1)
    assert resolve(tmp_path / "val.bin").digest() != before


def test_a_file_whose_name_holds_pattern_characters_is_that_file(tmp_path, resolve):
    (tmp_path / "val[1].bin").write_bytes(b"\1\0\2\0" * 8)
    assert resolve(tmp_path / "val[1].bin").paths == (str(tmp_path / "val[1].bin"),)
