"""CSV and JSONL files: writes cut short at any byte, several databases, cells that spreadsheets would evaluate."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.database import Database, small_run
from watcher.errors import ConfigError, DeliveryError
from watcher.report.format import csv_cell
from watcher.settings.load import load_settings
from watcher.settings.schema import SinkSettings
from watcher.sinks.protocol import send_missing
from watcher.sinks.registry import make_sink
from watcher.store.read.results import result_rows

KINDS = ("jsonl", "csv")


def rows_of(database: Database) -> list[dict]:
    return sorted(result_rows(database.store), key=lambda row: row["id"])


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    database = small_run(tmp_path / "a.db")
    made = rows_of(database)
    database.close()
    return made


def sink(kind: str, path: Path):
    return make_sink(kind, SinkSettings(kind=kind, path=path), path.parent / "own")


def ids_in(kind: str, path: Path) -> list[int]:
    with open(path, newline="") as file:
        return [int(line["id"]) for line in (map(json.loads, file) if kind == "jsonl" else csv.DictReader(file))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_cut_short_at_any_byte_is_completed_by_the_next_delivery(kind, tmp_path, rows):
    whole, path = tmp_path / "whole", tmp_path / "file"
    send_missing(sink(kind, whole), rows[:-1], unsure=False)
    start = whole.stat().st_size
    send_missing(sink(kind, whole), rows[-1:], unsure=False)
    expected = whole.read_bytes()
    for size in (0, *range(start, len(expected))):
        path.write_bytes(expected[:size])
        send_missing(sink(kind, path), rows, unsure=True)
        assert path.read_bytes() == expected, f"cut at byte {size}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_torn_line_that_a_delivery_removes_is_reported_so_that_its_row_is_sent_again(kind, tmp_path, rows):
    path = tmp_path / "file"
    send_missing(sink(kind, path), rows[:-1], unsure=False)
    os.truncate(path, path.stat().st_size - 1)
    made = sink(kind, path)
    send_missing(made, rows[-1:], unsure=False)
    assert made.torn and ids_in(kind, path) == [1, 3]
    again = sink(kind, path)
    assert send_missing(again, rows, unsure=True) == 1 and not again.torn
    assert sorted(ids_in(kind, path)) == [1, 2, 3]


@pytest.mark.parametrize("kind", [*KINDS, "parquet"])
def test_two_databases_export_into_one_file_and_no_row_is_lost_or_written_twice(kind, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "results"
    databases = [small_run(tmp_path / f"{name}.db") for name in "ab"]
    with databases[1].store.write() as tx:
        tx.exec_driver_sql("UPDATE results SET evaluated_at = '2030' || substr(evaluated_at, 5)")
    for _ in range(2):
        for database in databases:
            send_missing(sink(kind, path), rows_of(database), unsure=True)
    made = sink(kind, path)
    wanted = sorted((row["id"], row["evaluated_at"]) for database in databases for row in rows_of(database))
    if kind == "parquet":
        table = made._read()
        pairs = zip(table.column("id").to_pylist(), table.column("evaluated_at").to_pylist(), strict=True)
    else:
        with open(path, newline="") as file:
            lines = list(map(json.loads, file) if kind == "jsonl" else csv.DictReader(file))
        pairs = ((int(line["id"]), line["evaluated_at"]) for line in lines)
    assert sorted(pairs) == wanted and len(wanted) == 6
    for database in databases:
        database.close()


APPEND = """
import json, sys
from pathlib import Path
from watcher.settings.schema import SinkSettings
from watcher.sinks.registry import make_sink
rows, path, first = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + 100):
    made = make_sink("csv", SinkSettings(kind="csv", path=path), path.parent)
    made.send([{**row, "id": number * 10 + row["id"], "note": "x" * 5000} for row in rows])
"""


def test_two_processes_that_append_to_one_file_at_once_leave_every_line_whole(tmp_path, rows):
    path, source = tmp_path / "r.csv", tmp_path / "rows.json"
    source.write_text(json.dumps(rows))
    command = [sys.executable, "-c", APPEND, source, path]
    writers = [subprocess.Popen([*map(str, command), str(first)]) for first in (0, 1000)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    numbers = [*range(100), *range(1000, 1100)]
    assert sorted(ids_in("csv", path)) == sorted(number * 10 + at for number in numbers for at in (1, 2, 3))


@pytest.mark.parametrize("text", ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx"])
def test_a_cell_that_a_spreadsheet_would_evaluate_begins_with_an_apostrophe(text):
    assert csv_cell(text).startswith("'") and csv_cell(text)[1:2] in ("=", "+", "-", "@", "\\")


@pytest.mark.parametrize("value", [-3.5, 12, 0, 1e-7, "-3.5", "+1e-7", "2.5", "step_5.pt", "a=b", None])
def test_numbers_and_plain_names_are_not_changed_in_csv(value):
    assert csv_cell(value) == value


def test_hostile_names_reach_a_csv_file_as_text_on_one_line_and_are_recognised_again(tmp_path, rows):
    path = tmp_path / "r.csv"
    hostile = [
        {**row, "checkpoint": name, "loss": -1.25}
        for row, name in zip(rows, ('=HYPERLINK("http://x")', "\x1b]0;own\x07.pt", "a\nb,c.pt"), strict=True)
    ]
    send_missing(sink("csv", path), hostile, unsure=False)
    assert send_missing(sink("csv", path), hostile, unsure=True) == 0
    content = path.read_text()
    assert not any(sign in content for sign in "\x1b\x07\r\t") and len(content.splitlines()) == 4
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["checkpoint"] for row in found] == ['\'=HYPERLINK("http://x")', "\\x1b]0;own\\x07.pt", "a\\nb,c.pt"]
    assert {float(row["loss"]) for row in found} == {-1.25}


def test_a_file_of_another_kind_is_not_written_into(tmp_path, rows):
    path = tmp_path / "notes.csv"
    path.write_text("name,phone\nAda,1815\n")
    with pytest.raises(DeliveryError, match="not a file of results") as caught:
        send_missing(sink("csv", path), rows, unsure=False)
    assert "path" in caught.value.hint and path.read_text() == "name,phone\nAda,1815\n"


@pytest.mark.parametrize("name", ["alerts", "alert-0123456789", "../x", ".hidden"])
def test_a_sink_whose_name_is_taken_or_no_folder_is_refused(name, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(f'[[sink]]\nkind = "csv"\nname = "{name}"\n')
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert "name" in f"{caught.value.cause} {caught.value.hint}"


def test_every_column_of_results_has_its_type_in_parquet():
    from sqlalchemy import Float, Text

    from watcher.sinks.parquet import _type_of
    from watcher.store.schema import results

    expected = {
        column.name: "float64"
        if isinstance(column.type, Float)
        else "string"
        if isinstance(column.type, Text)
        else "int64"
        for column in results.columns
    }
    assert {name: _type_of(name) for name in expected} == expected
