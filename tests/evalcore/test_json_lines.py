"""Tables and columns are refused with a command that writes them as JSON lines: each command is run, its file read."""

import gzip
import json
import subprocess

import pytest

from evalcore.data.documents import Meter, documents
from evalcore.data.errors import DataError
from evalcore.data.formats import recognise
from evalcore.json_lines import of_object
from evalcore.tasks.rows import RowError, read_rows
from evalcore.tasks.sniffing import sniff_task

TEXTS = ["He said, “so”; and left.", 'A "quoted" line\nof two', "ü", "four"]
ROWS = [{"text": text, "label": str(at)} for at, text in enumerate(TEXTS)]
PIQA = [{"goal": f"open it {at}", "sol1": "pull, then turn", "sol2": "push", "label": at % 2} for at in range(4)]


def as_table(rows, delimiter):
    quoted = [[f'"{str(value).replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows]
    return "".join(delimiter.join(cells) + "\n" for cells in [list(rows[0]), *quoted])


def as_columns(rows, *, by_number):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return (
        {name: {str(at): cell for at, cell in enumerate(cells)} for name, cells in columns.items()}
        if by_number
        else columns
    )


def forms(rows):
    split = {"columns": list(rows[0]), "index": [0, 1, 2, 3], "data": [list(row.values()) for row in rows]}
    return {
        "it's a.csv": as_table(rows, ","),
        "semicolons.csv": as_table(rows, ";"),
        "a.tsv": as_table(rows, "\t"),
        "pandas.json": json.dumps(as_columns(rows, by_number=True)),
        "pandas.jsonl": json.dumps(as_columns(rows, by_number=True)) + "\n",
        "batches.jsonl": "".join(json.dumps(as_columns(rows[at : at + 2], by_number=False)) + "\n" for at in (0, 2)),
        "lists.json": json.dumps(as_columns(rows, by_number=False), indent=1),
        "split.json": json.dumps(split),
        "squad.json": json.dumps({"version": "1", "data": rows}, indent=1),
    }


def rewritten(file, hint):
    """The file that the command of the hint writes."""
    before = set(file.parent.iterdir())
    command = hint.split("write it as JSON lines: ", 1)[1]
    subprocess.run(["bash", "-c", command], cwd=file.parent, check=True, timeout=60)
    written = file.with_name(f"{file.stem}-rows.jsonl") if file.suffix == ".jsonl" else file.with_suffix(".jsonl")
    assert set(file.parent.iterdir()) == before | {written}
    return written


@pytest.mark.parametrize("name", forms(ROWS))
def test_a_table_or_columns_of_texts_become_documents_by_the_command_of_their_refusal(tmp_path, name):
    file = tmp_path / name
    file.write_text(forms(ROWS)[name])
    with pytest.raises(DataError) as refused:
        next(documents(recognise(file), "text", Meter()))
    lines = recognise(rewritten(file, refused.value.hint))
    assert ["".join(blocks) for blocks in documents(lines, "text", Meter())] == TEXTS


@pytest.mark.parametrize("name", forms(PIQA))
def test_a_table_or_columns_of_items_become_items_by_the_command_of_their_refusal(tmp_path, name):
    file = tmp_path / name
    file.write_text(forms(PIQA)[name])
    assert sniff_task(str(file)) is None
    with pytest.raises(RowError) as refused:
        next(read_rows(str(file)))
    lines = str(rewritten(file, refused.value.hint))
    assert sniff_task(lines).task == "piqa"
    assert [{**row.fields, "label": int(row.fields["label"])} for row in read_rows(lines)] == PIQA


def test_the_command_writes_over_no_file(tmp_path):
    """`> a.jsonl` would have emptied a.jsonl before it was read."""
    file = tmp_path / "pandas.jsonl"
    file.write_text(forms(ROWS)["pandas.jsonl"])
    (tmp_path / "pandas-rows.jsonl").write_text("another's")
    with pytest.raises(RowError) as refused:
        next(read_rows(str(file)))
    command = refused.value.hint.split("write it as JSON lines: ", 1)[1]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "File exists" in done.stderr
    assert file.read_text() == forms(ROWS)["pandas.jsonl"]
    assert (tmp_path / "pandas-rows.jsonl").read_text() == "another's"


def test_a_packed_file_is_unpacked_first(tmp_path):
    file = tmp_path / "lists.jsonl.gz"
    file.write_bytes(gzip.compress(forms(ROWS)["pandas.jsonl"].encode()))
    with pytest.raises(RowError) as refused:
        next(read_rows(str(file)))
    subprocess.run(["bash", "-c", refused.value.hint.split("`")[1]], check=True, timeout=60)
    with pytest.raises(RowError) as refused:
        next(read_rows(str(tmp_path / "lists.jsonl")))
    rewritten(tmp_path / "lists.jsonl", refused.value.hint)


def test_columns_under_the_name_of_json_lines_are_refused_as_what_they_are(tmp_path):
    file = tmp_path / "pandas.jsonl"
    file.write_text(forms(ROWS)["pandas.jsonl"])
    with pytest.raises(DataError, match="holds columns or rows in one object, not a document"):
        next(documents(recognise(file), "text", Meter()))
    with pytest.raises(RowError, match="holds columns or rows in one object, not an item"):
        next(read_rows(str(file)))


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_that_is_an_item_is_one_item(tmp_path, indent):
    file = tmp_path / "one.json"
    item = {"query": "q", "choices": ["a", "b"], "gold": 0}
    file.write_text(json.dumps(item, indent=indent))
    assert [row.fields for row in read_rows(str(file))] == [item]


@pytest.mark.parametrize(
    "row",
    [{"messages": [{"role": "user", "content": "hi"}]}, {"data": {"text": "a"}}, {"train": ["a"], "test": ["b"]}, {}],
)
def test_other_objects_get_no_such_command(row):
    assert of_object("a.json", row) is None
