"""`ckptwatch eval`: register, claim, launch and record given files as the daemon does, then end. Watches nothing."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evalcore.archive import ArchiveError, kind_at, summarise
from evalcore.launch_folder import LaunchFolder
from evalcore.messages import ContractError, from_json
from evalcore.progress import Progress
from watcher.detect.nearest import hint_where_absent
from watcher.detect.observation import fingerprint_at
from watcher.detect.probe import SettledFile, settled_file
from watcher.domain.checkpoint import DEFAULT_INCLUDE, NamePattern, printable
from watcher.domain.health import Pause, Paused
from watcher.domain.timestamps import iso
from watcher.errors import CheckpointUnreadable, CkptwatchError, NothingFound
from watcher.launch import processes
from watcher.launch.protocol import Launcher
from watcher.log import Log
from watcher.pipeline import run_folder
from watcher.pipeline.completion import refuse_to_retry, refuse_to_wait
from watcher.pipeline.dispatch import Dispatch, DispatchSettings
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.recovery import rescue
from watcher.pipeline.registration import as_checkpoint
from watcher.pipeline.stored_names import with_stored_set_names
from watcher.settings.eval_sets import launch_spec, resolve_model, resolve_sets
from watcher.settings.paths import plain_path
from watcher.settings.schema import RunSettings, Settings
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.read.queue import waiting_among
from watcher.store.write import checkpoints, eval_sets, requests


@dataclass(frozen=True)
class Evaluated:
    """The given checkpoints, as the store knows them. beside: sets whose curve in this run has another definition."""

    checkpoint_ids: list[int]
    set_ids: list[int]
    run: str
    beside: list[str]


def read_all(paths: list[str]) -> tuple[list[SettledFile], list[CkptwatchError]]:
    """The structure and metadata of each file that has them, each file once, and an error for each other one."""
    files, errors = [], []
    for path in {plain_path(path): path for path in paths}.values():
        try:
            files.append(_read_one(path))
        except CkptwatchError as error:
            errors.append(error)
    return files, errors


def _read_one(path: str) -> SettledFile:
    if not os.path.exists(path):
        hint = hint_where_absent(path, "ckptwatch eval {} --data FILE")
        raise NothingFound(f"there is no checkpoint {printable(path)}", hint=hint)
    try:
        version = fingerprint_at(path)
        return settled_file(plain_path(path), version, summarise(path))
    except ArchiveError as error:
        hint = error.hint or "copy the file again from where it was saved, or wait for its save to end"
        hint = (os.path.isdir(path) and _glob_of(path)) or hint
        raise CheckpointUnreadable(f"{printable(path)}: {error.reason}", hint=hint) from None
    except OSError as error:
        raise CheckpointUnreadable(f"{printable(path)} cannot be read: {error.strerror}") from None


def _glob_of(folder: str) -> str | None:
    """The command that evaluates the checkpoints in a folder that is none itself; None where there are none."""
    pattern, names = NamePattern(DEFAULT_INCLUDE), sorted(os.listdir(folder))
    given = shlex.quote(printable(folder.rstrip("/")))
    files = [name for name in names if os.path.isfile(os.path.join(folder, name)) and pattern.matches(name)]
    if files:
        ending = os.path.splitext(files[-1])[1]
        count = sum(name.endswith(ending) for name in files)
        return f"ckptwatch eval {given}/*{ending} --data FILE evaluates its {count} {ending} file{'s' * (count > 1)}"
    places = [place for name in names if os.path.isdir(place := os.path.join(folder, name))]
    count = sum(kind_at(place) is not None for place in places)
    return f"ckptwatch eval {given}/*/ --data FILE evaluates the {count} checkpoint folders in it" if count else None


def evaluate_files(
    store: Store,
    state: StateFolder,
    settings: Settings,
    files: list[SettledFile],
    run_name: str,
    log: Log,
    launcher: Launcher,
    report: Callable[[Progress], None],
    *,
    again: bool = False,
) -> Evaluated:
    """Register the files under the run, evaluate what has no result yet, and return when nothing is left to do.

    report: gets the progress several times a second. again: evaluate also what has a result.
    """
    common = os.path.commonpath([os.path.dirname(item.path) for item in files])
    run_name = run_folder.free_name(store, run_name, common)
    folder = Path(run_folder.containing(store, run_name, common))
    run = RunSettings(name=run_name, dir=folder)
    processes.become_subreaper()
    settings = with_stored_set_names(store, settings, log)
    specs = resolve_sets(settings.eval, state.data_digests, report, settings.suite)
    model = resolve_model(settings.model)
    spec = replace(launch_spec(settings.launch, specs, model, state.token_cache), linger_s=0.0)
    now = iso(time.time())
    run_folder.adopt(store, run_name, os.fspath(folder), now)
    digests = [(spec, spec.digest()) for spec in specs]
    sets = eval_sets.adopt_eval_sets(store, run_name, digests, now, whole=False)
    new = [as_checkpoint(item, os.path.relpath(item.path, folder), None, model) for item in files]
    ids = [registered.id for registered in checkpoints.register(store, run_name, new, sets, now)]
    keep = settings.store.keep_launches
    launching = DispatchSettings(launcher, settings.launch, {run_name: run}, spec, keep, only=tuple(ids))
    dispatch = Dispatch(store, state, launching, processes.owner(), log, Isolation(log))
    rescue(store, state, dispatch)
    set_ids = [row.id for row in sets]
    if ended := requests.ended_without_result(store, ids, set_ids):
        requests.change(store, "retry", ended, now)  # the user may have fixed the cause since
    if again:
        requests.measure_again(store, run_name, ids)
    _drain(dispatch, ids, report)
    return Evaluated(ids, set_ids, run_name, eval_sets.make_measured_current(store, run_name, set_ids))


def _drain(dispatch: Dispatch, ids: list[int], report: Callable[[Progress], None]) -> None:
    pause = threading.Event()
    try:
        while dispatch.live or waiting_among(dispatch.store, ids):
            dispatch.tick(time.monotonic())
            refuse_to_wait(dispatch)
            refuse_to_retry(dispatch.isolation.faults(time.monotonic()))
            for launch in dispatch.live.values():
                report(_progress_of(launch.folder))
            if dispatch.device_wait is not None:
                report(Progress("waiting for a device"))
            pause.wait(0.05)
    except BaseException:
        dispatch.stop_all(at_once=True)
        while dispatch.live:
            dispatch.tick(time.monotonic(), Paused(Pause.STOPPING))
            pause.wait(0.05)
        raise


def _progress_of(folder: LaunchFolder) -> Progress:
    """The worker's progress file; its imports take some seconds before there is one."""
    try:
        return from_json(Progress, folder.progress.read_text())
    except (OSError, ContractError):
        return Progress("starting torchrun")
