"""`ckptwatch export`: results to files and trackers without the daemon, again without doubles."""

from __future__ import annotations

import csv
import json

import pytest

from tests.support.database import small_run


@pytest.fixture
def made(ckptwatch, tmp_path):
    database = small_run(tmp_path / "ckptwatch.db")
    yield database
    database.close()


def test_export_writes_a_file_here_and_again_only_what_is_new(ckptwatch, made, tmp_path):
    said = ckptwatch("export", "csv", "--json")
    assert said.status == 0
    assert said.json == {"sink": "csv", "results": 3, "sent": 3, "where": str(tmp_path / "results.csv")}
    made.result(400, 2.0)
    assert ckptwatch("export", "csv", "--json").json["sent"] == 1
    with open(tmp_path / "results.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["100", "200", "300", "400"]


def test_a_dash_is_stdout_in_json_lines_or_csv_and_always_whole(ckptwatch, made, tmp_path):
    for _ in range(2):  # nothing is remembered as sent
        said = ckptwatch("export", "-")
        assert (said.status, [json.loads(line)["step"] for line in said.out.splitlines()]) == (0, [100, 200, 300])
    said = ckptwatch("export", "csv", "--path", "-", "--since", "200")
    assert said.out.splitlines()[0].startswith("id,run,checkpoint,step,") and len(said.out.splitlines()) == 3
    assert not (tmp_path / "-").exists()
    said = ckptwatch("export", "parquet", "--path", "-")
    assert (said.status, "parquet is not written to stdout" in said.err) == (2, True)


@pytest.mark.parametrize(("since", "steps"), [("200", [200, 300]), ("2025-10-09T09:00:00Z", [200, 300])])
def test_since_takes_a_step_or_a_time(ckptwatch, made, tmp_path, since, steps):
    with made.store.write() as tx:
        tx.exec_driver_sql("UPDATE results SET evaluated_at = '2025-10-09T08:00:00.000000Z' WHERE step = 100")
        tx.exec_driver_sql("UPDATE results SET evaluated_at = '2025-10-09T10:00:00.000000Z' WHERE step > 100")
    assert ckptwatch("export", "jsonl", "--since", since, "--path", tmp_path / "x.jsonl").status == 0
    assert [json.loads(line)["step"] for line in (tmp_path / "x.jsonl").read_text().splitlines()] == steps


def test_a_sink_of_the_settings_is_meant_by_its_name(ckptwatch, made, tmp_path):
    (tmp_path / "ckptwatch.toml").write_text('[[sink]]\nkind = "jsonl"\nname = "team"\npath = "shared/r.jsonl"\n')
    said = ckptwatch("export", "team")
    assert said.status == 0 and "3 of 3 results sent to" in said.err
    assert len((tmp_path / "shared" / "r.jsonl").read_text().splitlines()) == 3


def test_an_unknown_sink_and_a_senseless_time_are_refused_with_what_is_known(ckptwatch, made):
    said = ckptwatch("export", "tensorbord")
    assert said.status == 2 and "tensorboard" in said.err
    assert ckptwatch("export", "csv", "--since", "yesterday").status == 2


def test_tensorboard_is_backfilled_to_a_folder(ckptwatch, made, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert ckptwatch("export", "tensorboard", "--path", tmp_path / "runs").status == 0
    events = reader.EventAccumulator(str(tmp_path / "runs" / "gpt" / "ckptwatch"))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("eval/val/loss")] == [
        (100, 3.0),
        (200, 2.5),
        (300, 2.2),
    ]
