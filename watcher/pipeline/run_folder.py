"""Which folder a run belongs to: two folders never become one run, and a folder that was moved stays its run.

Wires store/ to the file system. Raises ConfigError with the remedy, before anything is written.
"""

from __future__ import annotations

import os

from watcher.detect.observation import fingerprint_at
from watcher.domain.checkpoint import stored
from watcher.domain.run_name import default_run_name, former_run_name, run_names
from watcher.errors import ConfigError
from watcher.settings.paths import plain_path
from watcher.settings.schema import Settings
from watcher.store.engine import Store
from watcher.store.write import checkpoints, runs


def adopt(store: Store, name: str, folder: str, now: str) -> bool:
    """Make the run known in this folder; True when it is new. Raises ConfigError where it is another folder's run."""
    demand_own_name(store, name, folder)
    return runs.adopt_run(store, name, folder, now)


def demand_own_name(store: Store, name: str, folder: str) -> None:
    """Raise ConfigError where the run of this name is another folder's."""
    known = runs.folder_of(store, name)
    if known is not None and not _same(known, folder) and not _moved(store, name, known, folder):
        raise ConfigError(
            f"the run {name!r} in this database is of another folder: {known}, not {folder}",
            hint=f"name it otherwise (--run NAME, or `name` in [[run]]), e.g. --run {_other_name(folder)}",
        )


def with_free_names(store: Store, settings: Settings) -> Settings:
    """The settings with a longer name for each run whose default name another folder's run has in the database."""
    runs, taken = [], {run.name for run in settings.run}
    for run in settings.run:
        name = free_name(store, run.name, plain_path(run.dir), taken - {run.name})
        runs.append(run.model_copy(update={"name": name}))
    return settings.model_copy(update={"run": tuple(runs)})


def free_name(store: Store, name: str, folder: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """The name itself unless it is the folder's default: then that of its run, else the folder's first free one."""
    if name != stored(default_run_name(folder)):
        return name
    names = [candidate for longer in run_names(folder) if (candidate := stored(longer)) not in taken]
    former = stored(former_run_name(folder))
    known = {candidate: runs.folder_of(store, candidate) for candidate in (*names, former)}
    for candidate in (*names, *((former,) if former not in taken else ())):
        if (of := known[candidate]) is not None and _same(of, folder):
            return candidate
    for candidate in names:
        if (of := known[candidate]) is None or _moved(store, candidate, of, folder):
            return candidate
    return name


def containing(store: Store, name: str, folder: str) -> str:
    """The folder that paths of this run are relative to: the run's own where the given one lies in it."""
    known = runs.folder_of(store, name)
    if known is not None and os.path.realpath(folder).startswith(os.path.realpath(known).rstrip("/") + "/"):
        return known
    return folder


def _same(known: str, folder: str) -> bool:
    if plain_path(known) == plain_path(folder):
        return True
    try:
        return os.path.samefile(known, folder)
    except OSError:
        return False


def _moved(store: Store, name: str, known: str, folder: str) -> bool:
    """The old folder is gone, and a registered file lies here with its size and its time."""
    if os.path.isdir(known):
        return False
    files = checkpoints.standing_files(store, name)
    if not files:
        return True
    for path, size_bytes, mtime_ns in files:
        try:
            version = fingerprint_at(os.path.join(folder, path))
        except (OSError, ValueError):
            continue
        if (version.size_bytes, version.mtime_ns) == (size_bytes, mtime_ns):
            return True
    return False


def _other_name(folder: str) -> str:
    parent, name = os.path.split(plain_path(folder))
    return f"{os.path.basename(parent) or 'run'}-{name}"
