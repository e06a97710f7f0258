"""trackio: a run of its own beside the trainer's, in trackio's local database (or the Space that `url` names)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from watcher.sinks.protocol import AXIS, Row, by_run, library, metrics_of, remark

ID_KEY = "ckptwatch/result"
NOTE_KEY = "ckptwatch/note"


class Trackio:
    """folder: trackio's own folder (TRACKIO_DIR), its default where None; url: a Space's id."""

    def __init__(self, name: str, project: str | None, folder: Path | None, url: str | None) -> None:
        self.name = name
        self.project = project or "ckptwatch"
        self.url = url
        if folder is not None:
            os.environ["TRACKIO_DIR"] = os.fspath(folder)  # read when trackio is imported
        self._trackio = library("trackio", "trackio")

    def already(self, rows: Sequence[Row]) -> set[int]:
        storage = library("trackio.sqlite_storage", "trackio").SQLiteStorage
        present: set[int] = set()
        for run, of_run in by_run(rows):
            recorded = {log.get(ID_KEY) for log in storage.get_logs(self.project, _name(run))}
            present |= {row["id"] for row in of_run if row["id"] in recorded}
        return present

    def send(self, rows: Sequence[Row]) -> None:
        for run, of_run in by_run(rows):
            self._trackio.init(
                project=self.project, name=_name(run), group=run, resume="allow", space_id=self.url,
                auto_log_gpu=False, auto_log_cpu=False, embed=False,
            )  # fmt: skip
            for row in of_run:
                values: dict = dict(metrics_of(row, nan=False)) | {ID_KEY: row["id"]}
                values |= {AXIS: row["step"]} if row["step"] is not None else {}
                values |= {NOTE_KEY: note} if (note := remark(row)) else {}
                self._trackio.log(values, step=row["step"])
            self._trackio.finish()

    def close(self) -> None:
        pass


def _name(run: str) -> str:
    return f"{run}-eval"
