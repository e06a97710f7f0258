"""What a start would do with the files that are there: one scan of each run's folder. Writes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from evalcore.progress import Progress
from watcher.detect.events import FolderWatch
from watcher.detect.observation import Irregular
from watcher.domain.checkpoint import NamePattern
from watcher.domain.passed_by import ignored_words
from watcher.domain.step import step_from_name
from watcher.errors import ConfigError, NothingFound
from watcher.pipeline.run_folder import demand_own_name, with_free_names
from watcher.settings.schema import Settings
from watcher.store.migrate import open_for_reading
from watcher.store.write import checkpoints

#: The plan for a version that the database does not have, and for one that it has.
NEW, KNOWN = "would be evaluated", "registered before: only sets that are new or changed"


def dry_run(settings: Settings, url: str, progress: Callable[[Progress], None]) -> list[dict[str, Any]]:
    """One row for each file that matches (run, checkpoint, step, plan), one for each reason to ignore others.

    Raises ConfigError where a folder cannot be scanned.
    """
    rows: list[dict[str, Any]] = []
    settings, registered = _as_in_the_database(settings, url)
    for run in settings.run:
        watch = FolderWatch(os.fspath(run.dir), NamePattern(run.include, run.exclude), run.scan_s, lambda: None)
        since_s = time.time()

        def scanned(entries: int, name: str = run.name, since_s: float = since_s) -> None:
            progress(Progress("scanning", entries, 0, "files", name, since=since_s, at=time.time()))

        report = watch.scan(scanned)
        if report.error:
            raise ConfigError(f"run {run.name}: {report.error}", hint="check `dir` of the run; ckptwatch doctor")
        for path, observed in sorted(report.observations):
            known = (run.name, path, observed) in registered
            plan = observed.reason if isinstance(observed, Irregular) else KNOWN if known else NEW
            rows.append({"run": run.name, "checkpoint": path, "step": step_from_name(path).value, "plan": plan})
        rows += [
            {"run": run.name, "checkpoint": None, "step": None, "plan": words}
            for words in ignored_words(report.ignored)
        ]
    return rows


def _as_in_the_database(settings: Settings, url: str) -> tuple[Settings, set[tuple[str, str, Any]]]:
    """(the settings with the names that the runs would get, (run, path, fingerprint) of every version that is known).

    Raises ConfigError where a run's name is another folder's.
    """
    try:
        store = open_for_reading(url)
    except NothingFound:
        return settings, set()
    try:
        settings = with_free_names(store, settings)
        for run in settings.run:
            demand_own_name(store, run.name, os.fspath(run.dir))
        return settings, {
            (run.name, path, fingerprint)
            for run in settings.run
            for path, fingerprint in checkpoints.known_versions(store, run.name)
        }
    finally:
        store.close()
