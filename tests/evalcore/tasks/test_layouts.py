"""The layouts in which people keep the items of a task: the same items and answers as the plain rows, or refused."""

import dataclasses
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from evalcore import evaluate_task
from evalcore.data import DataError
from evalcore.tasks.prepare import prepare
from evalcore.tasks.spec import task_spec
from tests.support.tasks import rows_of, write_rows


def same(task, plain, items):
    """Tokens, regions and answers of every item."""
    expected, read = (prepare(task_spec(task), rows, "bytes") for rows in (plain, items))
    assert read.checksum == expected.checksum and len(read.items) == len(plain)
    assert [item.gold for item in read.items] == [item.gold for item in expected.items]
    return read.items


def without(rows, field):
    return [{name: value for name, value in row.items() if name != field} for row in rows]


@pytest.mark.parametrize(
    ("task", "field", "write"),
    [
        ("hellaswag", "label", float),  # a column of pandas in which other rows have no label
        ("boolq", "label", lambda label: "True" if label else "false"),
        ("boolq", "label", lambda label: "yes" if label else "No"),
        ("boolq", "label", lambda label: str(int(label))),
        ("winogrande", "answer", int),
        ("mmlu", "answer", "ABCD".__getitem__),
    ],
)
def test_an_answer_in_another_notation_is_the_same_answer(task, field, write):
    rows = [row | {field: int(row[field])} for row in rows_of(task, 6)]
    plain = [row | {field: str(row[field])} for row in rows] if task == "winogrande" else rows
    assert len(same(task, plain, [row | {field: write(row[field])} for row in rows])) == 6


@pytest.mark.parametrize("task", ["hellaswag", "piqa", "winogrande"])
def test_labels_in_a_file_of_their_own_are_read(task, tmp_path):
    rows = rows_of(task, 6)
    field = "answer" if task == "winogrande" else "label"
    path = write_rows(tmp_path / "dev.jsonl", without(rows, field))
    with pytest.raises(DataError, match=r"dev.jsonl line 1 has no label in field .*; `dev-labels.lst` beside"):
        prepare(task_spec(task), [path], "bytes")
    labels = tmp_path / "dev-labels.lst"
    labels.write_bytes(b"".join(f"{row[field]}\r\n".encode() for row in rows))
    same(task, rows, [path])
    labels.write_text("0\n" * 5)
    with pytest.raises(DataError, match=r"dev.jsonl"):
        prepare(task_spec(task), [path], "bytes")


@pytest.mark.parametrize("layout", ["stream", "file", "folder"])
def test_arrow_files_and_folders_of_datasets_are_read(layout, tmp_path, model, tokenizer):
    rows = rows_of("arc", 6)
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "data-00000-of-00001.arrow"
    make = pyarrow.ipc.new_file if layout == "file" else pyarrow.ipc.new_stream
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}]}))
    same("arc_easy", rows, [tmp_path if layout == "folder" else path])
    if layout == "folder":
        result = evaluate_task(model, tmp_path, tokenizer, task="arc_easy")
        assert result.items == 6
        (tmp_path / "state.json").unlink()
        with pytest.raises(DataError, match=r"is a folder; name a file in it"):
            prepare(task_spec("arc_easy"), [tmp_path], "bytes")


def test_an_arrow_file_that_is_cut_off_is_refused_with_its_row(tmp_path):
    table = pyarrow.Table.from_pylist(rows_of("arc", 6))
    path = tmp_path / "cut.arrow"
    with pyarrow.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"cut.arrow cannot be read past row [24]"):
        prepare(task_spec("arc_easy"), [path], "bytes")


def test_plain_text_with_a_line_for_each_item_is_lambada(tmp_path):
    rows = [{"text": text} for text in ("the cat  sat on", "“ so , ” said he", "in a\u2028line")]
    path = tmp_path / "lambada_test_plain_text.txt"
    path.write_text("\n".join(row["text"] for row in rows) + "\n\n", encoding="utf-8", newline="")
    same("lambada", rows, [path])
    path.write_text("the cat sat\nthe cat \n")
    with pytest.raises(DataError, match=r"plain_text.txt line 2 has an empty choice"):
        prepare(task_spec("lambada"), [path], "bytes")
    with pytest.raises(DataError, match=r"plain_text.txt line 1 has no list of texts in field 'endings'"):
        prepare(task_spec("hellaswag"), [path], "bytes")


def test_two_tasks_in_one_file_and_a_file_of_another_task_are_refused_with_the_line(tmp_path):
    two = write_rows(tmp_path / "two.jsonl", [*rows_of("hellaswag", 2), *rows_of("piqa", 2)])
    with pytest.raises(DataError, match=r"two.jsonl line 3 has no list of texts in field 'endings'"):
        prepare(task_spec("hellaswag"), [two], "bytes")
    renamed = write_rows(Path(tmp_path) / "hellaswag_val.jsonl", rows_of("piqa", 2))
    with pytest.raises(DataError, match=r"hellaswag_val.jsonl line 1 has no list of texts"):
        prepare(task_spec("hellaswag"), [renamed], "bytes")


def test_a_text_that_begins_with_the_tokenizer_s_first_token_gets_no_second_one(tokenizer):
    """lm-evaluation-harness 0.4.13 asks the tokenizer for special tokens unless the text begins with that token."""
    bos = tokenizer.bos_id
    leading = dataclasses.replace(tokenizer, leading_ids=(bos,))
    for text in ("the cat sat", "<|endoftext|>the cat sat"):
        request = prepare(task_spec("lambada"), [{"text": text}], leading).items[0].requests[0]
        assert request.tokens.tolist() == [bos, *tokenizer.encode("the cat sat").tolist()]
        assert request.start == 1 + len(tokenizer.encode("the cat"))
