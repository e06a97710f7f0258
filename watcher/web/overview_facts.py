"""What the overview shows of the whole database, asked once for each change of it; and what of it is known at once.

Over a million results the questions take some 0.3 s. A browser that opens the page gets what is known without them:
the answers before the last change, or the names of runs and sets. The page then asks for the rest by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from watcher.report.metrics import METRICS
from watcher.web.source import Row, Source

AT_ONCE_MAX = 20_000  # results: up to here the questions take a few milliseconds
NEWEST = 12  # results in the table of the last ones


@dataclass(frozen=True)
class Facts:
    """cells: every run on every set. shown: their newest and lowest results by id. sets: metrics and task by name.
    suites: names.

    pending: these are not all answers of now.
    """

    cells: list[Row]
    shown: Mapping[int, Row]
    sets: Mapping[str, Row]
    runs: list[Row]
    newest: list[Row]
    counts: Mapping[str, int] = field(default_factory=dict)
    waiting_at: str | None = None
    suites: Sequence[str] = ()
    pending: bool = False

    def newest_of(self, cell: Row) -> Row | None:
        """The result of the version observed last; where no checkpoint is registered, the one saved last."""
        return self.shown.get(cell["observed"] or 0) or self.shown.get(cell["saved"] or 0)


def facts(source: Source) -> Facts:
    """All of them as they are now."""
    return source.remembered.get("overview", lambda: _asked(source))


def facts_at_once(source: Source, metrics: str) -> Facts:
    """All where there are few results or nothing has changed; else what was known before, or names alone.

    metrics: those of the address, for whose panels there is a place then.
    """
    newest = source.pages.newest_results(NEWEST)
    if not newest or newest[0]["id"] <= AT_ONCE_MAX:
        return facts(source)
    known, fresh = source.remembered.last("overview")
    if known is None:
        return _names(source, newest, metrics)
    return known if fresh else replace(known, newest=newest, pending=True)


def _asked(source: Source) -> Facts:
    cells = source.panels.cells()
    ids = [cell[key] for cell in cells for key in ("lowest", "observed", "saved") if cell[key] is not None]
    shown = source.panels.results_by_id(ids)
    pages = source.pages
    newest, counts = pages.newest_results(NEWEST), pages.counts()
    sets, suites = _sets(cells, shown), source.panels.suites()
    return Facts(cells, shown, sets, source.panels.runs(), newest, counts, pages.oldest_waiting_at(), suites)


def _sets(cells: list[Row], shown: Mapping[int, Row]) -> dict[str, Row]:
    """By name: which metrics its results have, and whether it is a task."""
    sets: dict[str, Row] = {}
    for cell in cells:
        about = sets.setdefault(cell["eval_set"], {"metrics": [], "task": None})
        for row in (shown.get(cell["observed"] or 0), shown.get(cell["saved"] or 0), shown.get(cell["lowest"] or 0)):
            if row is None:
                continue
            about["task"] = about["task"] or row["task"]
            has = [key for key, metric in METRICS.items() if row.get(metric.value) is not None or key == "loss"]
            about["metrics"] = [key for key in METRICS if key in about["metrics"] or key in has]
    return {name: sets[name] for name in sorted(sets)}


def _names(source: Source, newest: list[Row], metrics: str) -> Facts:
    """Runs and sets without a number, but for the last results."""
    wanted = [key for key in METRICS if key == "loss" or key in metrics.split(",")]
    sets = {row["name"]: {"metrics": wanted, "task": row["task"]} for row in source.panels.sets()}
    nothing = dict.fromkeys(("running", "queued", "failed", "newest_saved_at", "newest_step"))
    runs = [{**nothing, "dir": "", **run} for run in source.pages.run_names()]
    return Facts([], {}, sets, runs, newest, pending=True)
