"""One evaluation on request: the same register, claim, launch and record as the daemon's, for given files, then an end.

Wires like daemon.py; watches nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evalcore.archive import ArchiveError, summarise
from evalcore.launch_folder import LaunchFolder
from evalcore.messages import ContractError, from_json
from evalcore.progress import Progress
from watcher.detect.observation import fingerprint
from watcher.detect.probe import SettledFile, settled_file
from watcher.domain.checkpoint import printable
from watcher.domain.timestamps import iso
from watcher.errors import CheckpointUnreadable, EnvironmentProblem, NothingFound
from watcher.launch import processes
from watcher.launch.protocol import Launcher
from watcher.log import Log
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.intake import as_checkpoint
from watcher.pipeline.recovery import rescue
from watcher.settings.eval_sets import launch_spec, resolve_model, resolve_sets
from watcher.settings.schema import RunSettings, Settings
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import checkpoints, queue


@dataclass(frozen=True)
class Evaluated:
    """The checkpoints that were asked for, as the store knows them."""

    checkpoint_ids: list[int]
    set_ids: list[int]
    run: str


def read_all(paths: list[str]) -> list[SettledFile]:
    """What each file says of itself. Raises NothingFound, CheckpointUnreadable."""
    found = []
    for path in paths:
        if not os.path.exists(path):
            raise NothingFound(f"there is no checkpoint {printable(path)}", hint="ckptwatch eval CKPT --data FILE")
        try:
            status = os.stat(path)
            found.append(settled_file(os.path.abspath(path), fingerprint(status), summarise(path)))
        except ArchiveError as error:
            hint = error.hint or f"ckptwatch inspect {printable(path)}"
            raise CheckpointUnreadable(f"{printable(path)}: {error.reason}", hint=hint) from None
        except OSError as error:
            raise CheckpointUnreadable(f"{printable(path)} cannot be read: {error.strerror}") from None
    return found


def evaluate_files(
    store: Store,
    state: StateFolder,
    settings: Settings,
    found: list[SettledFile],
    run_name: str,
    log: Log,
    launcher: Launcher,
    tell: Callable[[Progress], None],
) -> Evaluated:
    """Register the files under the run, evaluate what has no result yet, and return when nothing is left to do.

    tell: gets how far it is, several times a second.
    """
    folder = Path(os.path.commonpath([os.path.dirname(item.path) for item in found]))
    run = RunSettings(name=run_name, dir=folder)
    processes.become_subreaper()
    specs = resolve_sets(settings.eval, state.root / "data_digests.json", tell)
    model = resolve_model(settings.model)
    spec = launch_spec(settings.launch, specs, model, state.token_cache)
    dispatch = Dispatch(store, state, launcher, settings.launch, {run_name: run}, spec, processes.owner(), log)
    rescue(store, state, dispatch)
    now = iso(time.time())
    checkpoints.adopt_run(store, run_name, os.fspath(folder), now)
    sets = checkpoints.adopt_eval_sets(
        store, run_name, [(spec, spec.digest(model)) for spec in specs], now, whole=False
    )
    new = [as_checkpoint(item, os.path.relpath(item.path, folder), None) for item in found]
    ids = [done.id for done in checkpoints.register(store, run_name, new, sets, now)]
    if ended := queue.ended_without_result(store, ids, [row.id for row in sets]):
        queue.change(store, "retry", ended, now)  # who asks again may have mended what was in the way
    dispatch.only = ids
    _drain(dispatch, ids, tell)
    return Evaluated(ids, [row.id for row in sets], run_name)


def _drain(dispatch: Dispatch, ids: list[int], tell: Callable[[Progress], None]) -> None:
    pause = threading.Event()
    try:
        while dispatch.live or queue.waiting_among(dispatch.store, ids):
            dispatch.tick(time.monotonic())
            if dispatch.launch_failures >= 3:
                raise EnvironmentProblem(
                    f"torchrun cannot be started: {dispatch.launch_failure.splitlines()[-1]}", hint="ckptwatch doctor"
                )
            for live in dispatch.live.values():
                tell(_said_by(live.folder))
            pause.wait(0.05)
    except BaseException:
        dispatch.paused = "stopping"
        dispatch.stop_all(at_once=True)
        while dispatch.live:
            dispatch.tick(time.monotonic())
            pause.wait(0.05)
        raise


def _said_by(folder: LaunchFolder) -> Progress:
    """What the worker says of itself; it starts with imports of some seconds."""
    try:
        return from_json(Progress, folder.progress.read_text())
    except (OSError, ContractError):
        return Progress("starting torchrun")
