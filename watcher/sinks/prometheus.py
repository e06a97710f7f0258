"""Prometheus' textfile collector: one small file with the newest and the best result of every run and set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evalcore.launch_folder import write_atomically
from watcher.domain.metrics import PUBLISHED, headline
from watcher.report.prometheus import Family, exposition
from watcher.sinks.protocol import Row

_SHOWN = {metric.key: metric.about for metric in PUBLISHED} | {
    "step": "Training step.",
    "finite": "0 where the loss is not finite.",
}
_KEPT = (*_SHOWN, "saved_at", "evaluated_at", "task")


class PrometheusFile:
    """Keeps the newest and best of each cell in a JSON file of its own: a late row never replaces a newer one."""

    def __init__(self, name: str, path: Path, memory: Path) -> None:
        self.name = name
        self.path = path
        self._memory = memory

    def already(self, rows: Sequence[Row]) -> set[int]:
        return set()  # the same row twice gives the same file

    def send(self, rows: Sequence[Row]) -> None:
        cells = self._cells()
        for row in rows:
            labels = [row["run"], row["eval_set"]] + ([row["weights"]] if row.get("weights") else [])
            cell = cells.setdefault(json.dumps(labels), {"newest": None, "best": None})
            kept = {key: row.get(key) for key in _KEPT}
            newest, best = cell["newest"], cell["best"]
            if newest is None or (row["saved_at"], row["step"] or 0) >= (newest["saved_at"], newest["step"] or 0):
                cell["newest"] = kept
            if row["finite"] and _is_better(kept, best):
                cell["best"] = kept
        for place in (self._memory, self.path):
            place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._memory, json.dumps(cells))
        write_atomically(self.path, exposition(_families(cells)))

    def close(self) -> None:
        pass

    def _cells(self) -> dict[str, dict]:
        try:
            return json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}


def _is_better(row: Row, best: Row | None) -> bool:
    metric = headline(row)
    value = metric.value_of(row)
    known = metric.value_of(best) if best is not None else None
    return value is not None and (known is None or metric.better(value, known))


def _families(cells: dict[str, dict]) -> list[Family]:
    families = []
    for key, words in _SHOWN.items():
        newest = Family(f"ckptwatch_eval_{key}", f"Newest checkpoint: {words}")
        best = Family(f"ckptwatch_best_{key}", f"Best checkpoint: {words}")
        for name, cell in sorted(cells.items()):
            labels = dict(zip(("run", "eval_set", "weights"), json.loads(name), strict=False))
            newest.add(cell["newest"].get(key), **labels)
            if cell["best"] is not None and key != "finite":
                best.add(cell["best"].get(key), **labels)
        families += [newest, best]
    return families
