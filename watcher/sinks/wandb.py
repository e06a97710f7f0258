"""Weights & Biases: a run of its own in the training run's group, with `train_step` as the axis of every curve.

A lower step in a running W&B run is dropped, so W&B's own step only counts rows; late values stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from watcher.errors import DeliveryError
from watcher.sinks.protocol import AXIS, Row, by_run, library, metrics_of, remark

ID_KEY = "ckptwatch/result"
NOTE_KEY = "ckptwatch/note"  # not below eval/: W&B would give it the axis value of the row before
_BLOCK = 32768
_HEADER = 7


class Wandb:
    """folder: of offline runs and W&B's own files. mode: online | offline; W&B's own default where None."""

    def __init__(self, name: str, folder: Path, project: str | None, entity: str | None, mode: str | None) -> None:
        self.name = name
        self.folder = folder
        self.project = project or "ckptwatch"
        self.entity = entity
        self.mode = mode or os.environ.get("WANDB_MODE") or "online"
        self._wandb = library("wandb", "wandb")

    def already(self, rows: Sequence[Row]) -> set[int]:
        """By the result's id, which every logged row carries."""
        present: set[int] = set()
        for run, of_run in by_run(rows):
            recorded = self._offline_ids(run) if self.mode == "offline" else self._online_ids(run)
            present |= {row["id"] for row in of_run} & recorded
        return present

    def send(self, rows: Sequence[Row]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for run, of_run in by_run(rows):
            try:
                self._send(run, of_run)
            except self._wandb.Error as error:
                hint = 'wandb login, or mode = "offline" in [[sink]]'
                raise DeliveryError(f"W&B refused run {run}: {error}", hint=hint) from None

    def close(self) -> None:
        """W&B writes in a process of its own: only its end means that everything is on disk."""
        self._wandb.teardown()

    def _send(self, run: str, rows: Sequence[Row]) -> None:
        settings = self._wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, disable_job_creation=True,
            x_disable_stats=True, x_disable_meta=True, init_timeout=60,
        )  # fmt: skip
        with self._wandb.init(
            project=self.project, entity=self.entity, group=run, name=f"{run}-eval", id=self._id(run),
            job_type="ckptwatch", resume="allow", mode=self.mode, dir=os.fspath(self.folder), settings=settings,
        ) as logged:  # fmt: skip
            logged.define_metric(AXIS)
            logged.define_metric("eval/*", step_metric=AXIS, summary="min")
            first = self._count(run)
            for place, row in enumerate(rows):
                values: dict[str, Any] = dict(metrics_of(row, nan=True)) if row["step"] is not None else {}
                values |= {AXIS: row["step"]} if row["step"] is not None else {}
                values |= {NOTE_KEY: note} if (note := remark(row)) else {}
                logged.log({**values, ID_KEY: row["id"]}, step=first + place)
            self._count(run, first + len(rows))

    def _id(self, run: str) -> str:
        """The same W&B run again, from whatever process."""
        return hashlib.sha256(f"{self.project}\0{run}".encode()).hexdigest()[:16]

    def _count(self, run: str, value: int | None = None) -> int:
        """The number of rows in the W&B run, kept beside it: offline parts of one run continue the count."""
        path = self.folder / "rows.json"
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            known = {}
        if value is not None:
            path.write_text(json.dumps({**known, self._id(run): value}))
        return known.get(self._id(run), 0)

    def _offline_ids(self, run: str) -> set[int]:
        records = library("wandb.proto.wandb_internal_pb2", "wandb")
        ids = set()
        for path in (self.folder / "wandb").glob(f"offline-run-*-{self._id(run)}*/*.wandb"):
            for data in offline_records(path.read_bytes()):
                record = records.Record.FromString(data)
                for item in record.history.item:
                    if (item.key or "/".join(item.nested_key)) == ID_KEY:
                        ids.add(int(json.loads(item.value_json)))
        return ids

    def _online_ids(self, run: str) -> set[int]:
        path = "/".join(part for part in (self.entity, self.project, self._id(run)) if part)
        try:
            known = self._wandb.Api(timeout=30).run(path)
            return {int(row[ID_KEY]) for row in known.scan_history(keys=[ID_KEY])}
        except self._wandb.Error:
            return set()  # no such run yet; a server that is away fails when we send


def offline_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline `.wandb` file: a 7-byte head, then LevelDB's log format in blocks of 32 KiB.

    Each piece: u32 CRC, u16 length, u8 type (1 whole, 2 first, 3 middle, 4 last). A torn end is where reading ends.
    """
    position, parts = _HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        piece = data[position + _HEADER : position + _HEADER + length]
        if kind not in (1, 2, 3, 4) or len(piece) < length:
            return
        parts = piece if kind in (1, 2) else parts + piece
        position += _HEADER + length
        if kind in (1, 4):
            yield parts
