"""Recovery after a daemon died: outcomes are recorded; a local launch still alive is ended, a Slurm job adopted;
every other open attempt is orphaned and its job queued again at once, uncharged.

At boot for this state folder's own earlier daemon; on a server, now and then, for daemons elsewhere whose lease lapsed.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from evalcore.launch_folder import LaunchFolder
from watcher.domain.job import AttemptEnd, Cause
from watcher.domain.timestamps import iso
from watcher.errors import CkptwatchError
from watcher.launch.protocol import LaunchPlan
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.isolation import first_line
from watcher.pipeline.open_launch import SCRATCH, read_end
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import attempts, launches
from watcher.store.write.attempts import Held


def rescue(store: Store, state: StateFolder, dispatch: Dispatch) -> None:
    """At boot, with the lock held: end every open attempt of this instance that no running launch holds."""
    instance = state.identity()
    launcher = dispatch.settings.launcher
    adopted, over = {}, []
    for row in launches.open_launches(store, instance):
        plan = LaunchPlan(row.id, LaunchFolder(Path(row.folder)), row.device, row.world_size)
        running = launcher.find(plan, row.pid, row.pid_start, row.external_id)
        if running is not None:
            adopted[row.id] = running
        else:
            over.append(row.id)
            shutil.rmtree(state.launches / Path(row.id).name / SCRATCH, ignore_errors=True)
    interrupted = 0
    still_needed = set()
    for held in attempts.open_held(store, instance):
        running = adopted.get(held.attempt.launch_id)
        if running is not None:
            still_needed.add(held.attempt.launch_id)
            dispatch.adopt(running, held)
        else:
            interrupted += _end(dispatch, held, state.launches / held.attempt.launch_id)
    for launch in over:  # last: a launch that is over must not leave an attempt open, wherever we die
        launches.update_launch(store, launch, finished_at=iso(time.time()), reason="its daemon had died")
    for launch, running in adopted.items():
        if launch not in still_needed:  # other launches did its work meanwhile
            launcher.stop(running)
            launches.update_launch(store, launch, finished_at=iso(time.time()), reason="no open attempts")
    if interrupted:
        dispatch.log.event("rescued", jobs=interrupted)


def rescue_lapsed(store: Store, state: StateFolder, dispatch: Dispatch) -> int:
    """On a server: give back what daemons hold whose lease has run out. Returns how many attempts that were."""
    instance = state.identity()
    lapsed = attempts.lapsed_held(store, instance)
    interrupted = sum(_end(dispatch, held, None) for held in lapsed)
    launches.close_lapsed(store, instance, iso(time.time()))
    if interrupted:
        dispatch.log.event("rescued", jobs=interrupted)
    return interrupted


def _end(dispatch: Dispatch, held: Held, folder: Path | None) -> bool:
    """End an attempt that no process works on; True where it left no outcome."""
    end = AttemptEnd(Cause.ORPHANED, False)
    if folder is not None:
        launch = LaunchFolder(folder)
        end = read_end(launch, held.attempt) or AttemptEnd(Cause.ORPHANED, launch.started(held.attempt.id).exists())
    try:
        dispatch.end(held, end)
    except CkptwatchError:
        raise
    except Exception as error:  # an answer that cannot be recorded must not fail every start
        dispatch.isolation.note(f"attempt {held.attempt.id} of {held.checkpoint.shown_path}", error, time.monotonic())
        dispatch.end(held, AttemptEnd(Cause.PROTOCOL, True, None, first_line(error)))
    return end.outcome is None
