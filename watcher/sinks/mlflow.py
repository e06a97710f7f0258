"""MLflow: one run for each training run in the experiment, found again by its tag. NaN becomes a tag."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.sinks.protocol import AXIS, Row, by_run, library, metrics_of, remark

RUN_TAG = "ckptwatch.run"
BATCH = 900  # metrics of one call; MLflow takes 1000


class Mlflow:
    """url: tracking URI (`sqlite:///mlflow.db`, a server), else MLFLOW_TRACKING_URI; project: the experiment."""

    def __init__(self, name: str, url: str | None, project: str | None) -> None:
        self.name = name
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._mlflow = library("mlflow", "mlflow")
        self._entities = library("mlflow.entities", "mlflow")
        self._client: Any = self._mlflow.MlflowClient(tracking_uri=url)
        self._experiment = self._find_experiment(project or "ckptwatch")
        self._runs: dict[str, str] = {}

    def already(self, rows: Sequence[Row]) -> set[int]:
        """By key, step and time of each metric."""
        present = set()
        for run, of_run in by_run(rows):
            run_id = self._run(run)
            keys = {metric.key for row in of_run for metric in self._metrics(row)}
            recorded = {
                (key, metric.step, metric.timestamp)
                for key in keys
                for metric in self._client.get_metric_history(run_id, key)
            }
            for row in of_run:
                wanted = [(m.key, m.step, m.timestamp) for m in self._metrics(row)]
                if wanted and all(each in recorded for each in wanted):
                    present.add(row["id"])
        return present

    def send(self, rows: Sequence[Row]) -> None:
        for run, of_run in by_run(rows):
            run_id = self._run(run)
            metrics = [metric for row in of_run for metric in self._metrics(row)]
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            for row in of_run:
                if note := remark(row):
                    self._client.set_tag(run_id, f"ckptwatch.note.{row['eval_set']}.{_step(row)}", note[:5000])

    def close(self) -> None:
        pass

    def _metrics(self, row: Row) -> list[Any]:
        """MLflow's own step is the training step; a result without one goes into the notes only."""
        if row["step"] is None:
            return []
        at_ms = int(seconds(row["evaluated_at"]) * 1000)
        values = metrics_of(row, nan=False)
        if values:
            values[AXIS] = float(row["step"])
        return [self._entities.Metric(key, value, at_ms, row["step"]) for key, value in values.items()]

    def _find_experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known is not None else self._client.create_experiment(name)

    def _run(self, run: str) -> str:
        if run not in self._runs:
            quoted = run.replace("'", "\\'")
            runs = self._client.search_runs([self._experiment], f"tags.`{RUN_TAG}` = '{quoted}'", max_results=1)
            if runs:
                self._runs[run] = runs[0].info.run_id
            else:
                tags = {RUN_TAG: run}
                self._runs[run] = self._client.create_run(self._experiment, run_name=run, tags=tags).info.run_id
        return self._runs[run]


def _step(row: Row) -> str:
    return "unknown" if row["step"] is None else str(row["step"])
