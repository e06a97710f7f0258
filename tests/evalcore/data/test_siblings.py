"""Data files that resemble a known kind and are another: a doubt in the result's note, or a refusal with the remedy."""

import json

import numpy as np
import pytest

from evalcore.data import DataError, open_stream
from evalcore.messages import EvalSetSpec
from watcher.settings.eval_sets import data_files
from watcher.settings.schema import EvalSettings

IDS = np.random.default_rng(0).integers(0, 65, 900)


def opened(path, **spec):
    return open_stream(EvalSetSpec(name="v", paths=(str(path),), **spec))


@pytest.mark.parametrize(
    ("written", "declared", "likely"),
    [("u2", "uint8", "uint16"), ("u4", "uint8", "uint32"), ("i8", "uint8", "int64"), ("i8", "uint32", "int64"),
     ("u4", "uint16", "uint32"), ("u1", "uint8", None), ("u2", "uint16", None), ("u4", "uint32", None)],
)  # fmt: skip
def test_a_type_that_is_declared_too_narrow_is_doubted_in_the_note(tmp_path, written, declared, likely):
    path = tmp_path / "val.bin"
    IDS.astype(f"<{written}").tofile(path)
    doubts = [note for note in opened(path, token_dtype=declared).notes if "probably" in note]
    assert [f"--token-dtype {likely}" in note for note in doubts] == [True] * (likely is not None)


@pytest.mark.parametrize("numbers", [[20240520, 1, 5000], [278895051, 1, 77, 2]])
@pytest.mark.parametrize("order", "<>")
def test_a_header_whose_numbers_count_something_else_is_no_token(tmp_path, numbers, order):
    header = np.zeros(256, f"{order}i4")
    header[: len(numbers)] = numbers
    ids = np.random.default_rng(1).integers(0, 50257, 4000)
    (tmp_path / "val.bin").write_bytes(header.tobytes() + ids.astype("<u2").tobytes())
    with pytest.raises(DataError, match="header") as caught:
        opened(tmp_path / "val.bin")
    assert caught.value.hint


def test_ids_that_begin_with_a_padded_row_are_no_header(tmp_path):
    rows = np.zeros((40, 128), "<u2")
    rows[:, :30] = 7  # 60 bytes, then zeros to the end of a row
    rows.tofile(tmp_path / "val.bin")
    assert opened(tmp_path / "val.bin").n_tokens == rows.size


@pytest.mark.parametrize(("end", "command"), [("\r\n", r"s/\r$//"), ("\r", r"s/\r/\n/g"), ("\n", None)])
def test_line_ends_of_another_system_are_kept_and_told(tmp_path, end, command):
    text = end.join(f"line {i}" for i in range(50))
    (tmp_path / "val.txt").write_bytes(text.encode())
    stream = opened(tmp_path / "val.txt", tokenizer="bytes")
    assert stream.n_tokens == len(text)
    assert [command in note for note in stream.notes if "lines of val.txt" in note] == [True] * (command is not None)


@pytest.mark.parametrize(
    ("row", "remedy"),
    [({"prompt": "a b", "completion": "c d"}, "prompt, completion"),
     ({"title": "a", "content": "b"}, "--text-field content"),
     ({"messages": [{"role": "user", "content": "a"}]}, "chat template"), ({"story": "a b"}, "--text-field story")],
)  # fmt: skip
def test_a_row_without_the_field_is_answered_by_what_it_holds(tmp_path, row, remedy):
    (tmp_path / "val.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    with pytest.raises(DataError) as caught:
        list(opened(tmp_path / "val.jsonl", tokenizer="bytes").notes)
    assert remedy in caught.value.hint
    assert ("give --text-field prompt" in caught.value.hint) is False


def test_the_stem_by_which_megatron_names_its_pair_is_answered_by_the_file(tmp_path):
    for ending in (".bin", ".idx"):
        (tmp_path / f"val_text_document{ending}").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "val_text_document")
    assert caught.value.hint == f"name {tmp_path / 'val_text_document.bin'}"


def test_a_file_that_two_patterns_or_a_link_name_counts_once(tmp_path):
    for name, part in (("val_0.bin", IDS[:500]), ("val_1.bin", IDS[500:])):
        part.astype("<u2").tofile(tmp_path / name)
    (tmp_path / "val_2.bin").symlink_to(tmp_path / "val_0.bin")
    given = [str(tmp_path / "val_1.bin"), str(tmp_path / "val_*.bin"), str(tmp_path / "val_?.bin")]
    stream = open_stream(given)
    assert stream.n_tokens == len(IDS)
    assert data_files(EvalSettings(data=given)) == [str(tmp_path / "val_1.bin"), str(tmp_path / "val_0.bin")]
