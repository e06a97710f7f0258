"""Results as a Parquet file: the table with the columns of `results`, written anew and renamed over the old one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.errors import DeliveryError
from watcher.sinks.protocol import Row, library
from watcher.sinks.row_identity import IDENTITY, exclusive_folder, ids_by_identity

_FLOATS = ("loss", "ppl", "bits_per_byte", "loss_stderr", "load_seconds", "eval_seconds", "tokens_per_second")
_MORE_FLOATS = ("logged_val_loss", "accuracy", "accuracy_norm", "accuracy_stderr", "random_baseline")
_TEXTS = ("run", "checkpoint", "eval_set", "dtype", "device", "note", "checkpoint_digest", "eval_digest", "task")
_MORE_TEXTS = ("evalcore_version", "torch_version", "saved_at", "evaluated_at", "weights", "model_digest")
_LATER_TEXTS = ("content_digest", "family", "assumed")


class Parquet:
    """A row that the file has already is replaced."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._arrow = library("pyarrow", "parquet")
        self._files = library("pyarrow.parquet", "parquet")

    def already(self, rows: Sequence[Row]) -> set[int]:
        if not self.path.exists():
            return set()
        wanted = ids_by_identity(rows)
        return {wanted[key] for key in self._identities(self._read()) if key in wanted}

    def send(self, rows: Sequence[Row]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = self._arrow.Table.from_pylist(list(rows), schema=self._schema(rows[0]))
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with exclusive_folder(self.path.parent):
                if self.path.exists():
                    sent, before = ids_by_identity(rows), self._read()
                    kept = [key not in sent for key in self._identities(before)]
                    before = before.filter(self._arrow.array(kept, type=self._arrow.bool_()))
                    table = self._arrow.concat_tables([before, table], promote_options="permissive")
                self._files.write_table(table, temporary)
                os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DeliveryError(f"{self.path} cannot be written: {error}", hint="retried later") from None

    def close(self) -> None:
        pass

    def _read(self) -> Any:
        return self._files.read_table(self.path)

    def _identities(self, table: Any) -> list[tuple[Any, ...]]:
        missing = [key for key in IDENTITY if key not in table.column_names]
        if missing:
            raise DeliveryError(
                f"{self.path} is not a file of results: it has no column {missing[0]}",
                hint="set another `path` in [[sink]], or move this file away",
            )
        return list(zip(*(table.column(key).to_pylist() for key in IDENTITY), strict=True))

    def _schema(self, row: Row) -> Any:
        """Types by column, not by what the first rows happen to hold."""
        arrow = self._arrow
        return arrow.schema([(key, getattr(arrow, _type_of(key))()) for key in row])


def _type_of(column: str) -> str:
    if column in _FLOATS or column in _MORE_FLOATS:
        return "float64"
    return "string" if column in (*_TEXTS, *_MORE_TEXTS, *_LATER_TEXTS) else "int64"
