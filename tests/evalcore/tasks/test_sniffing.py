"""Which task a file holds: by its fields, and only where they tell one; plain text stays text."""

import gzip
import json
import struct

import pytest

from evalcore.tasks.sniffing import label_files, sniff_task

HELLASWAG = {
    "ind": 1, "activity_label": "Roof", "ctx_a": "A man sits.", "ctx_b": "he", "ctx": "A man sits. he",
    "label": "3", "endings": ["a", "b", "c", "d"], "source_id": "x",
}  # fmt: skip
CHOICES = {"text": ["a", "b"], "label": ["A", "B"]}
AI2 = {"id": "8-343", "question": {"stem": "s", "choices": [{"text": "a", "label": "A"}]}, "answerKey": "A"}


def written(path, row):
    line = json.dumps(row) + "\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(line.encode()))
    else:
        path.write_text(line if not path.name.endswith(".json") else f"[{line}]")
    return str(path)


@pytest.mark.parametrize(
    ("name", "row", "task"),
    [
        ("hellaswag_val.jsonl", HELLASWAG, "hellaswag"),
        ("val.jsonl.gz", HELLASWAG, "hellaswag"),
        ("sciq_test.json", {"question": "q", "distractor1": "a", "distractor2": "b", "distractor3": "c",
                            "correct_answer": "d", "support": "s"}, "sciq"),
        ("valid.jsonl", {"goal": "g", "sol1": "a", "sol2": "b"}, "piqa"),
        ("dev.jsonl", {"qID": "1", "sentence": "a _ b", "option1": "c", "option2": "d", "answer": "1"}, "winogrande"),
        ("a.jsonl", {"id": "1", "question": "q", "choices": CHOICES, "answerKey": "A"}, "arc"),
        ("ARC-Easy-Test.jsonl", {"id": "1", "question": "q", "choices": CHOICES, "answerKey": "A"}, "arc_easy"),
        ("ARC-Challenge-Test.jsonl", AI2, "arc_challenge"),
        ("openbookqa_test.jsonl", AI2, "openbookqa"),
        ("o.jsonl", {"id": "1", "question_stem": "q", "choices": CHOICES, "answerKey": "A"}, "openbookqa"),
        ("b.jsonl", {"question": "q", "title": "t", "answer": True, "passage": "p"}, "boolq"),
        ("a.jsonl", {"question": "q", "choices": CHOICES, "answer": ["A"]}, "arc"),
        ("mmlu.jsonl", {"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 3}, "mmlu"),
        ("mmlu.jsonl", {"question": "q", "choices": ["a", "b", "c", "d"], "answer": 3}, "mmlu"),
        ("h.jsonl", {**HELLASWAG, "query": "q", "choices": ["a", "b", "c", "d"], "gold": 3}, "hellaswag"),
        ("copa.jsonl", {"query": "q", "choices": ["a", "b"], "gold": 0}, "multiple_choice"),
        ("winograd.jsonl", {"context_options": ["a", "b"], "continuation": "c", "gold": 1}, "schema"),
        ("lambada.jsonl", {"context": "a", "continuation": "b"}, "language_modeling"),
    ],
)  # fmt: skip
def test_the_fields_of_the_first_row_tell_the_task(tmp_path, name, row, task):
    evidence = sniff_task(written(tmp_path / name, row))
    assert evidence is not None and evidence.task == task and not evidence.also_text


@pytest.mark.parametrize(
    "row",
    [
        {"text": "A lambada item is a text like any other."},
        {"text": "a", "label": 1},
        {"question": "q", "answer": "a"},
        {"question": "q", "question_concept": "c", "choices": CHOICES, "answerKey": "A"},
        {"question": {"stem": "s"}},
        ["a", "b"],
        "a text",
    ],
)
def test_other_rows_are_no_task(tmp_path, row):
    assert sniff_task(written(tmp_path / "val.jsonl", row)) is None


def test_rows_that_are_a_task_and_a_text_say_so(tmp_path):
    evidence = sniff_task(written(tmp_path / "val.jsonl", {**HELLASWAG, "text": "t"}))
    assert evidence.task == "hellaswag" and evidence.also_text


def test_rows_of_two_tasks_are_given_to_neither(tmp_path):
    evidence = sniff_task(written(tmp_path / "test.jsonl", AI2))
    assert evidence.candidates == ("arc", "openbookqa") and evidence.task is None
    lettered = {"question": "q", "choices": ["a", "b"], "answer": "B"}
    assert sniff_task(written(tmp_path / "test.jsonl", lettered)).candidates == ("arc", "mmlu")


def test_the_columns_of_a_parquet_file_tell_the_task_without_pyarrow_in_the_process(tmp_path):
    """pyarrow writes the file here and is not what reads its footer."""
    import pyarrow
    import pyarrow.parquet

    from evalcore.tasks.parquet_columns import parquet_columns

    rows = [{"id": "1", "question": "q", "choices": CHOICES, "answerKey": "A"}] * 3
    path = tmp_path / "test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert parquet_columns(str(path)) == ["id", "question", "choices", "answerKey"]
    assert sniff_task(str(path)).task == "arc"
    path.write_bytes(path.read_bytes()[:-9])
    assert sniff_task(str(path)) is None


@pytest.mark.parametrize("kind", ["file", "stream", "folder"])
def test_the_columns_of_an_arrow_file_or_data_set_tell_the_task_without_pyarrow_in_the_process(tmp_path, kind):
    import pyarrow

    from evalcore.tasks.arrow_columns import arrow_columns

    table = pyarrow.Table.from_pylist([{"id": "1", "question": "q", "choices": CHOICES, "answerKey": "A"}] * 3)
    path = tmp_path / "data-00000-of-00001.arrow"
    with (pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream)(str(path), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}]}))
    assert arrow_columns(str(path)) == ["id", "question", "choices", "answerKey"]
    assert sniff_task(str(tmp_path if kind == "folder" else path)).task == "arc"
    whole = path.read_bytes()
    for cut in range(0, 400, 7):  # of the schema, in which every offset points somewhere
        path.write_bytes(whole[:cut])
        assert sniff_task(str(path)) is None
        path.write_bytes(whole[:cut] + b"\xff\x7f" + whole[cut + 2 :])
        sniff_task(str(path))


def test_texts_beside_the_columns_of_a_task_are_named_by_the_format_that_reads_them(tmp_path):
    import pyarrow
    import pyarrow.parquet

    from evalcore.tasks.sniffing import text_format

    path = tmp_path / "val.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**HELLASWAG, "text": "t"}]), path)
    assert sniff_task(str(path)).also_text
    assert [text_format(str(tmp_path / name)) for name in ("val.parquet", "a.arrow", "a.json", "a.jsonl.gz")] == [
        "parquet", "arrow", "json", "jsonl",
    ]  # fmt: skip


def test_llm_c_items_are_known_by_their_header(tmp_path):
    path = tmp_path / "hellaswag_val.bin"
    path.write_bytes(struct.pack("<256i", 20240522, 1, *([0] * 254)))
    assert sniff_task(str(path)).task == "tokens"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{broken\n", b"PAR1" + b"\xff" * 40 + b"PAR1", b"\n\n"])
def test_a_file_that_cannot_be_read_so_far_is_no_task(tmp_path, content):
    for name in ("a.jsonl", "a.parquet", "a.bin", "a.jsonl.gz", "a.json"):
        path = tmp_path / name
        path.write_bytes(content)
        assert sniff_task(str(path)) is None
    assert sniff_task(str(tmp_path / "gone.jsonl")) is None


def test_piqa_has_its_labels_in_a_file_beside_it():
    assert label_files("/d/valid.jsonl", "piqa") == ("/d/valid-labels.lst",)
    assert label_files("/d/valid.jsonl", "sciq") == ()


def test_sniffing_loads_neither_torch_nor_numpy_nor_pyarrow():
    import subprocess
    import sys

    code = (
        "import sys, evalcore.tasks.sniffing, evalcore.tasks.bundle, evalcore.tasks.item_scores\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
