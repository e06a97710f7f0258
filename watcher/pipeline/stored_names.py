"""Names of runs and eval sets as the database has them: a default name of an earlier version stays.

A name is a part of every job and result: another one would evaluate every checkpoint again, on a second curve.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from watcher.domain.set_name import default_set_name, former_set_name
from watcher.log import Log
from watcher.pipeline.run_folder import with_free_names
from watcher.settings.eval_sets import data_files
from watcher.settings.load import printable_name
from watcher.settings.schema import EvalSettings, Settings
from watcher.store.engine import Store
from watcher.store.write.eval_sets import files_of_sets


def with_stored_names(store: Store, settings: Settings, log: Log) -> Settings:
    """The settings with the names that their runs and eval sets have in the database, or get in it."""
    return with_stored_set_names(store, with_free_names(store, settings), log)


def with_stored_set_names(store: Store, settings: Settings, log: Log) -> Settings:
    """The settings with the former name for each set that has its default name here, and the former one there."""
    known = files_of_sets(store)
    taken = {section.name for section in settings.eval}
    renamed: dict[str, str] = {}
    for section in settings.eval:
        former = _named(section, former_set_name)
        is_default = section.name == _named(section, default_set_name)
        if is_default and section.name not in known and former not in taken and _holds(section, known.get(former)):
            renamed[section.name] = former
            log.event("set_keeps_name", eval_set=former, default=section.name)
    if not renamed:
        return settings
    sets = [section.model_copy(update={"name": renamed.get(section.name, section.name)}) for section in settings.eval]
    alerts = [
        alert.model_copy(update={"eval_set": renamed.get(alert.eval_set or "", alert.eval_set)})
        for alert in settings.alert
    ]
    return settings.model_copy(update={"eval": tuple(sets), "alert": tuple(alerts)})


def _holds(section: EvalSettings, files: set[str] | None) -> bool:
    """Whether one of these files is the section's: the same name alone may be another set's."""
    return files is not None and any(os.path.basename(path) in files for path in data_files(section))


def _named(section: EvalSettings, of_path: Callable[[str], str]) -> str:
    name = printable_name(of_path(section.data[0]))
    return f"{name}-{section.shots}shot" if section.shots else name
