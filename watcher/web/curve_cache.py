"""Curves of panels and the best point of each curve, kept between requests; only what new results touch is read again.

The one place of the page that remembers. What is kept is small: JSON of thinned curves, and ids of best points.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from watcher.domain.metrics import headline
from watcher.report.comparison import Windows
from watcher.report.curves import Best, best_within_noise
from watcher.report.item_comparison import Items
from watcher.report.metrics import Metric
from watcher.web.chart_data import columns_for, series_json

Row = dict[str, Any]
KEPT_S = 600.0  # read again after this even if nothing seems to have changed
KEPT_MAX = 20_000  # curves
#: What the difference of two points is taken from; `step` first, as the reader wants it.
COMPARED = (
    *("step", "id", "loss", "loss_stderr", "finite", "seq_len", "stride", "tokens", "eval_digest", "saved_at"),
    *("task", "items", "accuracy", "accuracy_norm", "accuracy_stderr", "random_baseline", "bits_per_byte"),
    *("accuracy_norm_stderr", "bits_per_byte_stderr", "ppl_item", "checkpoint"),
)


class PanelReadings(Protocol):
    """The queries of watcher.store.read.panels."""

    def cells(self) -> list[Row]: ...
    def sets(self) -> list[Row]: ...
    def suites(self) -> list[str]: ...
    def suite_curves(self) -> list[Row]: ...
    def means(self) -> list[Row]: ...
    def runs(self) -> list[Row]: ...
    def results_by_id(self, ids: Sequence[int]) -> dict[int, Row]: ...
    def checkpoint_of(self, result_id: int) -> int | None: ...
    def mark(self) -> tuple[int, str]: ...
    def touched_since(self, mark: tuple[int, str]) -> tuple[set[tuple[str, str]], set[str]]: ...
    def points(
        self, cell: Row, wanted: Sequence[str], steps: tuple[int | None, int | None] = (None, None)
    ) -> dict[str, Sequence[Any]]: ...
    def logged(self, run: str) -> dict[str, Sequence[Any]]: ...


class CurveCache:
    """Safe to use from several threads. windows, items: what paired differences are taken from."""

    def __init__(self, panels: PanelReadings, windows: Windows, items: Items) -> None:
        self._panels = panels
        self._windows = windows
        self._items = items
        self._lock = threading.Lock()
        self._mark: tuple[int, str] | None = None
        self._curves: dict[tuple, tuple[float, str]] = {}
        self._bests: dict[tuple, tuple[float, Best | None]] = {}

    def refresh(self, mark: tuple[int, str]) -> None:
        """Forget the curves that new results or observations may have changed. mark: of the database now."""
        with self._lock:
            if mark == self._mark:
                return
            if self._mark is not None:
                cells, runs = self._panels.touched_since(self._mark)
                for kept in (self._curves, self._bests):
                    for key in list(kept):  # a copy: another thread adds curves meanwhile
                        if key[:2] in cells or key[0] in runs:
                            kept.pop(key, None)
            self._mark = mark

    def series(
        self, cell: Row, metric: Metric, x: str, points_max: int, span: tuple[float, float] | None = None
    ) -> str:
        """The JSON of one curve; with a span it is read anew and not kept."""
        key = (cell["run"], cell["eval_set"], cell["digest"], cell.get("weights"), metric.key, x, points_max)
        known = self._curves.get(key) if span is None else None
        if known is not None and time.monotonic() - known[0] < KEPT_S:
            return known[1]
        if metric.key == "logged":
            columns = self._panels.logged(cell["run"])
        else:
            columns = self._panels.points(cell, columns_for(metric, x))
        made = series_json(columns, metric, x, points_max, span)
        if span is None:
            if len(self._curves) >= KEPT_MAX:
                self._curves.clear()
            self._curves[key] = (time.monotonic(), made)
        return made

    def known_best(self, cell: Row, metric: Metric | None = None) -> tuple[bool, Best | None]:
        """(whether it has been computed, the best within noise). metric: by default what the set is judged by."""
        known = self._bests.get(_best_key(cell, metric))
        return (True, known[1]) if known is not None and time.monotonic() - known[0] < KEPT_S else (False, None)

    def best(self, cell: Row, metric: Metric | None = None, end_s: float = math.inf) -> Best | None:
        """The earliest point that is as good as the best one, within noise: reads windows or items, so it takes time.

        Raises TimeoutError where it is not done at end_s of the monotonic clock.
        """
        known, best = self.known_best(cell, metric)
        if known:
            return best
        columns = self._panels.points(cell, COMPARED)
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        rows = [{**row, "run": cell["run"]} for row in rows]
        by = metric or headline(cell)
        best = best_within_noise(rows, _Until(self._windows, end_s), _Until(self._items, end_s), by)
        self._bests[_best_key(cell, by)] = (time.monotonic(), best)
        return best

    def compute_bests(
        self, wanted: Sequence[tuple[Row, Metric | None]], budget_s: float, *, strict: bool = False
    ) -> tuple[int, bool]:
        """Compute what is not known yet, until the time is up: (how many, whether all are known now).

        wanted: cells, each with its metric as in `best`. strict: also a curve that is begun is given up then; otherwise
        at least one is computed.
        """
        end_s, computed = time.monotonic() + budget_s, 0
        for cell, metric in wanted:
            if not self.known_best(cell, metric)[0]:
                if computed and time.monotonic() > end_s:
                    return computed, False
                try:
                    self.best(cell, metric, end_s if strict else math.inf)
                except TimeoutError:
                    return computed, False
                computed += 1
        return computed, True


def _best_key(cell: Row, metric: Metric | None) -> tuple:
    return (cell["run"], cell["eval_set"], cell["digest"], cell.get("weights"), (metric or headline(cell)).key)


class _Until:
    """Windows or items that can be read until a time."""

    def __init__(self, kept: Any, end_s: float) -> None:
        self._kept = kept
        self._end_s = end_s

    def get(self, result_id: int) -> Any:
        if time.monotonic() > self._end_s:
            raise TimeoutError
        return self._kept.get(result_id)
