"""Each sink against its real library, offline: late, out of order, twice, cut short; read back by that library."""

from __future__ import annotations

import csv
import importlib
import json
import math
from pathlib import Path

import pytest

from tests.support.database import small_run
from watcher.errors import EnvironmentProblem
from watcher.settings.schema import SinkSettings
from watcher.sinks.protocol import metrics_of, remark
from watcher.sinks.protocol import send_missing as send
from watcher.sinks.registry import make_sink, named
from watcher.store.read.results import result_rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    """Results out of order, two sets, a diverged one, an overflowed ppl, one without a step."""
    database = small_run(tmp_path_factory.mktemp("rows") / "a.db")
    database.eval_set(name="wiki/text", digest="sha256:22")
    database.result(200, 3.1, eval_set="wiki/text", bits_per_byte=1.1)
    database.result(400, None, note="the loss is nan")
    database.result(500, 800.0)
    database.result(None, 2.5, checkpoint="final.pt", checkpoint_digest="sha256:final")
    made = result_rows(database.store)
    database.close()
    return sorted(made, key=lambda row: -row["id"])


def sink(kind: str, tmp_path: Path, **settings):
    return make_sink(kind, SinkSettings(kind=kind, **settings), tmp_path / "own")


def twice(kind: str, tmp_path: Path, rows: list[dict], **settings) -> list[int]:
    """Deliver the later half first, then everything as if the first delivery had been cut short, then again."""
    half = rows[: len(rows) // 2]
    first = send(sink(kind, tmp_path, **settings), half, unsure=False)
    second = send(sink(kind, tmp_path, **settings), rows, unsure=True)
    third = send(sink(kind, tmp_path, **settings), rows, unsure=True)
    return [first, second, third]


def expected(rows: list[dict]) -> dict[tuple[str, int], float]:
    return {
        (f"eval/{row['eval_set']}/{key}", row["step"]): row[key]
        for row in rows
        for key in ("loss", "ppl", "bits_per_byte")
        if row[key] is not None and row["step"] is not None
    }


def test_jsonl_holds_each_row_once_after_a_line_that_was_cut_off(tmp_path, rows):
    path = tmp_path / "out" / "r.jsonl"
    send(sink("jsonl", tmp_path, path=path), rows[:3], unsure=False)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 20)
    assert send(sink("jsonl", tmp_path, path=path), rows, unsure=True) == len(rows) - 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(row["id"] for row in rows)
    assert next(line for line in lines if line["step"] == 400)["loss"] is None


def test_csv_holds_each_row_once_under_one_head(tmp_path, rows):
    path = tmp_path / "r.csv"
    assert twice("csv", tmp_path, rows, path=path) == [3, 4, 0]
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(rows) and list(found[0]) == list(rows[0])
    assert {(int(row["id"]), row["loss"]) for row in found} == {
        (row["id"], "" if row["loss"] is None else repr(row["loss"])) for row in rows
    }


def test_parquet_has_the_columns_of_results_with_their_types(tmp_path, rows):
    arrow = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "r.parquet"
    assert twice("parquet", tmp_path, rows, path=path) == [3, 4, 0]
    send(sink("parquet", tmp_path, path=path), rows, unsure=False)
    table = arrow.read_table(path)
    assert sorted(table.column("id").to_pylist()) == sorted(row["id"] for row in rows)
    assert table.column_names == list(rows[0])
    assert str(table.schema.field("loss").type) == "double" and str(table.schema.field("bytes").type) == "int64"
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def test_prometheus_file_shows_the_newest_and_best_whatever_the_order(tmp_path, rows):
    path = tmp_path / "collector" / "c.prom"
    for row in rows:  # newest first: later deliveries are older
        send(sink("prometheus", tmp_path, path=path), [row], unsure=True)
    lines = path.read_text().splitlines()
    assert 'ckptwatch_eval_step{run="gpt",eval_set="wiki/text"} 200' in lines
    assert 'ckptwatch_best_loss{run="gpt",eval_set="val"} 2.2' in lines
    assert 'ckptwatch_eval_loss{run="gpt",eval_set="val"} 2.5' in lines  # final.pt was saved last


@pytest.fixture
def task_rows(tmp_path) -> list[dict]:
    """Two results of a task whose accuracy rises while its loss rises, and a mean of checkpoints."""
    database = small_run(tmp_path / "tasks.db")
    database.eval_set(name="piqa", digest="sha256:33")
    for step, accuracy, more in ((100, 0.5, {}), (200, 0.6, {}), (200, 0.7, {"weights": "mean2"})):
        facts = {"task": "piqa", "items": 9, "accuracy": accuracy, "accuracy_norm": 0.55, "ppl": None}
        path = f"step_{step}.pt" + ("#mean2" if more else "")
        database.result(step, step / 50, eval_set="piqa", checkpoint=path, **facts, **more)
    made = [row for row in result_rows(database.store) if row["task"]]
    database.close()
    return made


def test_a_task_has_metrics_of_its_own_and_a_mean_has_names_of_its_own(task_rows):
    first, _, mean = task_rows
    assert metrics_of(first, nan=True) == {
        "eval/piqa/loss": 2.0, "eval/piqa/accuracy": 0.5, "eval/piqa/accuracy_norm": 0.55,
    }  # fmt: skip
    assert metrics_of(mean, nan=True)["eval/piqa/mean2/accuracy"] == 0.7
    assert remark(first) is None  # a task has no perplexity, which is not unusual


def test_the_best_of_a_task_in_the_prometheus_file_is_its_highest_accuracy(tmp_path, task_rows):
    path = tmp_path / "c.prom"
    send(sink("prometheus", tmp_path, path=path), task_rows, unsure=False)
    lines = path.read_text().splitlines()
    assert 'ckptwatch_best_accuracy{run="gpt",eval_set="piqa"} 0.6' in lines
    assert 'ckptwatch_best_step{run="gpt",eval_set="piqa"} 200' in lines
    assert 'ckptwatch_eval_accuracy{run="gpt",eval_set="piqa",weights="mean2"} 0.7' in lines


def test_tensorboard_reads_back_every_value_from_a_child_folder(tmp_path, rows):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "runs"
    assert twice("tensorboard", tmp_path, rows, path=folder) == [3, 4, 0]
    assert [path.name for path in (folder / "gpt").iterdir()] == ["ckptwatch"]
    events = reader.EventAccumulator(str(folder / "gpt" / "ckptwatch"))
    events.Reload()
    found = {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
    nan = found.pop(("eval/val/loss", 400))
    assert math.isnan(nan)
    assert found == pytest.approx(expected(rows))
    assert len(events.Scalars("eval/val/loss")) == 5
    notes = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("eval/val/note")]
    assert any("the loss is not finite" in note for note in notes)
    assert any("final.pt" in note and "training step" in note for note in notes)


def test_tensorboard_goes_on_after_a_torn_record(tmp_path, rows):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    send(sink("tensorboard", tmp_path, path=tmp_path), rows[3:], unsure=False)
    (file,) = (tmp_path / "gpt" / "ckptwatch").iterdir()
    with open(file, "r+b") as torn:
        torn.truncate(file.stat().st_size - 7)
    assert send(sink("tensorboard", tmp_path, path=tmp_path), rows, unsure=True) == 4
    events = reader.EventAccumulator(str(file.parent))
    events.Reload()
    assert sorted(event.step for event in events.Scalars("eval/val/loss")) == [100, 200, 300, 400, 500]


def test_tensorboard_dashboard_itself_sees_values_appended_later(tmp_path, rows):
    """TensorBoard's own reloading: values that come after its first look are seen by the same reader."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    finite = [row for row in rows if row["eval_set"] == "val" and row["step"] in (100, 200, 300)]
    send(sink("tensorboard", tmp_path, path=tmp_path), finite[:1], unsure=False)
    events = reader.EventAccumulator(str(tmp_path / "gpt" / "ckptwatch"))
    events.Reload()
    assert len(events.Scalars("eval/val/loss")) == 1
    send(sink("tensorboard", tmp_path, path=tmp_path), finite[1:], unsure=False)
    events.Reload()
    assert [event.step for event in events.Scalars("eval/val/loss")] == [300, 100, 200]


@pytest.mark.slow
def test_mlflow_gives_back_every_value_and_tells_what_was_not_finite(tmp_path, rows):
    mlflow = pytest.importorskip("mlflow")
    url = f"sqlite:///{tmp_path}/mlflow.db"
    assert twice("mlflow", tmp_path, rows, url=url, project="an experiment") == [3, 6, 2]  # tags are set again
    client = mlflow.MlflowClient(url)
    experiment = client.get_experiment_by_name("an experiment")
    (run,) = client.search_runs([experiment.experiment_id])
    keys = {key for key, _ in expected(rows)}
    history = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    assert {(key, m.step): m.value for key in keys for m in history[key]} == pytest.approx(expected(rows))
    assert [len(history["eval/val/loss"]), len(history["eval/wiki/text/loss"])] == [4, 1]
    assert {m.value for m in client.get_metric_history(run.info.run_id, "train_step")} == {100, 200, 300, 500}
    assert "the loss is not finite" in run.data.tags["ckptwatch.note.val.400"]
    assert run.info.run_name == "gpt"


@pytest.mark.slow
def test_wandb_offline_files_hold_every_row_once_in_a_run_of_its_own(tmp_path, rows):
    pytest.importorskip("wandb")
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    from watcher.sinks.wandb import offline_records

    settings = {"path": tmp_path / "w", "project": "p", "mode": "offline"}
    assert twice("wandb", tmp_path, rows, **settings) == [3, 4, 0]
    history, groups, axes, steps = {}, set(), set(), []
    for path in sorted((tmp_path / "w" / "wandb").glob("offline-run-*/*.wandb")):
        for record in map(records.Record.FromString, offline_records(path.read_bytes())):
            if record.HasField("run"):
                groups.add((record.run.run_group, record.run.display_name, record.run.project, record.run.job_type))
            if record.HasField("metric") and record.metric.glob_name:
                axes.add((record.metric.glob_name, record.metric.step_metric))
            if record.HasField("history"):
                values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                steps.append(record.history.step.num)
                assert values["ckptwatch/result"] not in history
                history[values["ckptwatch/result"]] = values
    assert groups == {("gpt", "gpt-eval", "p", "ckptwatch")}
    deliveries = [path.name for path in (tmp_path / "w" / "wandb").glob("offline-run-*")]
    assert len(deliveries) > 1 and len({name.rsplit("-", 1)[1] for name in deliveries}) == 1  # one run for `wandb sync`
    assert ("eval/*", "train_step") in axes
    assert sorted(steps) == list(range(len(rows)))
    for row in rows:
        assert history[row["id"]].get("train_step") == row["step"]
    found = {(k, v["train_step"]): v[k] for v in history.values() if "train_step" in v for k in v if "/loss" in k}
    assert math.isnan(float(found.pop(("eval/val/loss", 400))))
    assert found == {key: value for key, value in expected(rows).items() if "/loss" in key[0]}


@pytest.mark.slow
def test_trackios_database_gives_back_every_row_once(tmp_path, rows, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    assert twice("trackio", tmp_path, rows, project="p", path=tmp_path / "trackio") == [3, 4, 0]
    logs = storage.get_logs("p", "gpt-eval")
    assert sorted(log["ckptwatch/result"] for log in logs) == sorted(row["id"] for row in rows)
    found = {(key, log["train_step"]): log[key] for log in logs if "train_step" in log for key in log if "/loss" in key}
    assert found == {key: value for key, value in expected(rows).items() if "/loss" in key[0]}
    assert any("not finite" in str(log.get("ckptwatch/note")) for log in logs)


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        *(("parquet", "pyarrow"), ("tensorboard", "tensorboard.compat.proto.event_pb2"), ("mlflow", "mlflow")),
        *(("wandb", "wandb"), ("trackio", "trackio")),
    ],
)
def test_a_missing_library_is_told_with_the_extra_to_install(kind, module, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(EnvironmentProblem) as caught:
        sink(kind, tmp_path)
    assert caught.value.hint == f"in a clone of ckptwatch: pip install '.[{kind}]'"


def test_two_sinks_of_one_name_are_refused():
    from watcher.errors import ConfigError

    assert list(named([SinkSettings(kind="csv"), SinkSettings(kind="csv", name="more")])) == ["csv", "more"]
    with pytest.raises(ConfigError, match="'csv'"):
        named([SinkSettings(kind="csv"), SinkSettings(kind="csv")])
