"""Data access for the pages: queries, the daemon's status file, progress and logs of launches.

Paths come from the database and the state folder only, never from a request, and must lie in the state folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evalcore.launch_folder import LaunchFolder
from evalcore.spikes import Spike
from evalcore.tasks.item_scores import ItemScores
from watcher.errors import CkptwatchError
from watcher.report.comparison import Windows
from watcher.report.item_comparison import Items
from watcher.state.folder import StateFolder
from watcher.state.lock import is_held, lock_facts
from watcher.state.status_file import read_object
from watcher.store.read.listing import ListingQuery
from watcher.store.read.suites import SuiteScore
from watcher.web.curve_cache import CurveCache, PanelReadings
from watcher.web.health import Health, page_health
from watcher.web.remembered import Remembered
from watcher.web.reproduce import ModelFlags

Row = dict[str, Any]


class Readings(Protocol):
    """The queries of watcher.store.read.dashboard."""

    def pulse(self) -> str: ...
    def stamp(self) -> str: ...
    def runs(self) -> list[Row]: ...
    def run_names(self) -> list[Row]: ...
    def set_names(self) -> list[Row]: ...
    def newest_results(self, limit: int) -> list[Row]: ...
    def results(self, run: int | None, eval_set: str | None, after_id: int, limit: int) -> list[Row]: ...
    def best_accuracy(self) -> list[Row]: ...
    def suites(self) -> list[SuiteScore]: ...
    def counts(self) -> dict[str, int]: ...
    def sample_counts(self) -> dict[str, int]: ...
    def oldest_waiting_at(self) -> str | None: ...
    def cells_of(self, checkpoint_ids: Sequence[int]) -> dict[int, list[Row]]: ...
    def checkpoint(self, checkpoint_id: int) -> Row | None: ...
    def running(self) -> list[Row]: ...
    def job(self, job_id: int) -> Row | None: ...
    def exports(self) -> list[Row]: ...
    def facts(self) -> Row: ...


class RunReadings(Protocol):
    """The queries of watcher.store.read.run_pages."""

    def run(self, run_id: int) -> Row | None: ...
    def config_of(self, run: str, step: int | None = None) -> Row | None: ...
    def annotations(self, runs: Sequence[str]) -> list[Row]: ...


class BehindReadings(Protocol):
    """The queries of watcher.store.read.behind."""

    def windows(self, result_id: int) -> tuple[Sequence[float], Sequence[int]] | None: ...
    def positions(self, result_id: int) -> tuple[Sequence[float], Sequence[int]] | None: ...
    def spikes(self, result_id: int) -> tuple[Spike, ...]: ...
    def items(self, result_id: int) -> ItemScores | None: ...


class SampleReadings(Protocol):
    """The queries of watcher.store.read.samples."""

    def exist(self) -> bool: ...
    def sections(self) -> list[Row]: ...
    def checkpoints(self, run: str, name: str) -> list[Row]: ...
    def texts(self, name: str, checkpoint_ids: Sequence[int]) -> list[Row]: ...
    def of_checkpoint(self, checkpoint_id: int) -> list[Row]: ...


@dataclass
class Source:
    """listing: rows of one table and their number. windows, items: by result, for paired differences.

    read_log: a launch folder's log file -> its end, escaped. model: the `[model]` section now. editable: notes and tags
    may be written.
    """

    pages: Readings
    panels: PanelReadings
    listing: Callable[[str, ListingQuery], tuple[list[Row], int]]
    state: StateFolder
    read_log: Callable[[Path], str]
    runs: RunReadings
    behind: BehindReadings
    samples: SampleReadings
    model: ModelFlags = field(default_factory=ModelFlags)
    windows: Windows = field(default_factory=dict[int, Any])
    items: Items = field(default_factory=dict[int, Any])
    editable: bool = False
    _pulse: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        self.curves = CurveCache(self.panels, self.windows, self.items)
        self.remembered = Remembered(self.pages.stamp)

    def refresh_curves(self) -> None:
        """Forget the curves that may have changed; the database is asked only when its files have changed."""
        self.curves.refresh(self.remembered.get("mark", self.panels.mark))

    def status_file(self) -> Row | None:
        """What the daemon wrote last; None where it never did."""
        return read_object(self.state.health)

    def health(self) -> Health:
        trouble, now_s = None, time.time()
        try:
            self.remembered.get("oldest waiting", self.pages.oldest_waiting_at)  # can the database be read?
        except CkptwatchError as error:
            trouble = error.cause
        return page_health(self.status_file(), lock_facts(self.state.lock, now_s), trouble, now_s)

    def pulse(self) -> str:
        """Changes when something new could be shown; the database is asked only when its files have changed."""
        try:
            stamp = self.pages.stamp()
            if not stamp or stamp != self._pulse[0]:
                self._pulse = (stamp, self.pages.pulse())
        except CkptwatchError as error:
            self._pulse = ("", error.cause)
        status = self.status_file() or {}
        progress = [self.progress(launch.get("folder")) for launch in status.get("launches") or []]
        shown = (
            status.get("state"),
            status.get("reasons"),
            [p and (p.get("phase"), p.get("done")) for p in progress],
            status.get("work"),
        )
        return f"{self._pulse[1]}|{shown}|{is_held(self.state.lock)}"

    def progress(self, folder: str | None) -> Row | None:
        """The progress that the launch's worker wrote last."""
        inside = self._launch(folder)
        return read_object(inside.progress) if inside else None

    def log_tail(self, folder: str | None) -> str:
        inside = self._launch(folder)
        return self.read_log(inside.log) if inside else ""

    def _launch(self, folder: str | None) -> LaunchFolder | None:
        if not folder:
            return None
        path = Path(folder).resolve()
        return LaunchFolder(path) if path.parent == self.state.launches.resolve() else None
