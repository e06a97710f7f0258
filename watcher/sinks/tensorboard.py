"""TensorBoard event files: a child folder of its own for each run, never the trainer's files. Needs no TensorFlow."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from watcher.domain.timestamps import seconds
from watcher.sinks.protocol import Row, by_run, library, metrics_of, remark
from watcher.sinks.row_identity import exclusive

FOLDER = "ckptwatch"
#: One file to which every delivery appends. TensorBoard takes its age from the name, so the name never changes.
FILE = "events.out.tfevents.1000000000.ckptwatch"


class TensorBoard:
    """folder: TensorBoard's log directory; curves go to `folder/<run>/ckptwatch`.

    torn: the last `send` removed a record that had been cut short.
    """

    name: str

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.torn = False
        self._events = library("tensorboard.compat.proto.event_pb2", "tensorboard")
        self._summaries = library("tensorboard.compat.proto.summary_pb2", "tensorboard")
        self._tensors = library("tensorboard.compat.proto.tensor_pb2", "tensorboard")
        self._crc = library("tensorboard.compat.tensorflow_stub.pywrap_tensorflow", "tensorboard").masked_crc32c

    def already(self, rows: Sequence[Row]) -> set[int]:
        """By tag, step and time: an event has no room for a result's id."""
        present = set()
        for run, of_run in by_run(rows):
            with _opened(self._path(run)) as file:
                recorded = {
                    (value.tag, event.step, round(event.wall_time, 3))
                    for event in map(self._events.Event.FromString, _records(file, self._crc))
                    for value in event.summary.value
                }
            for row in of_run:
                if all((*key, round(seconds(row["evaluated_at"]), 3)) in recorded for key in self._keys(row)):
                    present.add(row["id"])
        return present

    def send(self, rows: Sequence[Row]) -> None:
        for run, of_run in by_run(rows):
            path = self._path(run)
            path.parent.mkdir(parents=True, exist_ok=True)
            with _opened(path) as file, exclusive(file.fileno()):
                for _ in _records(file, self._crc):
                    pass  # to the end of the last whole record
                whole = file.tell()
                self.torn = file.seek(0, os.SEEK_END) > whole
                file.seek(whole)
                file.truncate()
                if file.tell() == 0:
                    version = self._events.Event(wall_time=1e9, file_version="brain.Event:2")
                    self._append(file, version)
                for row in of_run:
                    self._append(file, self._event(row))
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        pass

    def _path(self, run: str) -> Path:
        return self.folder / run.replace("/", "_") / FOLDER / FILE

    def _keys(self, row: Row) -> list[tuple[str, int]]:
        tags = [*metrics_of(row, nan=True)] if row["step"] is not None else []
        tags += [f"eval/{row['eval_set']}/note"] if remark(row) else []
        return [(tag, row["step"] or 0) for tag in tags]

    def _event(self, row: Row) -> Any:
        values = []
        if row["step"] is not None:
            for tag, value in metrics_of(row, nan=True).items():
                values.append(self._summaries.Summary.Value(tag=tag, simple_value=value))
        if note := remark(row):
            plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
            text = self._tensors.TensorProto(dtype=7, string_val=[note.encode("utf-8", "replace")])  # 7: DT_STRING
            text.tensor_shape.dim.add(size=1)
            metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
            tag = f"eval/{row['eval_set']}/note"
            values.append(self._summaries.Summary.Value(tag=tag, metadata=metadata, tensor=text))
        summary = self._summaries.Summary(value=values)
        return self._events.Event(wall_time=seconds(row["evaluated_at"]), step=row["step"] or 0, summary=summary)

    def _append(self, file: BinaryIO, event: Any) -> None:
        data = event.SerializeToString()
        head = struct.pack("<Q", len(data))
        file.write(head + struct.pack("<I", self._crc(head)) + data + struct.pack("<I", self._crc(data)))


def _opened(path: Path) -> BinaryIO:
    """For reading and appending; an absent file reads as empty and is made only where its folder exists."""
    if not path.parent.exists():
        return open(os.devnull, "rb")
    return open(path, "r+b" if path.exists() else "w+b")


def _records(file: BinaryIO, crc: Any) -> Iterator[bytes]:
    """Whole records (u64 length, its CRC, data, its CRC); leaves the position at the end of the last one."""
    while True:
        start = file.tell()
        head = file.read(12)
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
        body = file.read(length + 4) if len(head) == 12 and length < 1 << 26 else b""
        whole = len(head) == 12 and len(body) == length + 4
        if not whole or struct.unpack("<I", body[length:])[0] != crc(body[:length]):
            file.seek(start)
            return
        yield body[:length]
