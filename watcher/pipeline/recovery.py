"""What a daemon left that died: outcomes that lie there are recorded; what still runs is ended (local) or adopted
(Slurm); every other open attempt is orphaned and its job queued again at once, uncharged.

At boot for this state folder's own earlier daemon; on a server, now and then, for daemons elsewhere that fell silent.
"""

from __future__ import annotations

import time
from pathlib import Path

from evalcore.launch_folder import LaunchFolder
from watcher.domain.job import AttemptEnd, Cause, RetryPolicy, after_attempt
from watcher.domain.timestamps import iso
from watcher.launch.protocol import LaunchPlan
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.open_launch import read_end
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import leases, queue
from watcher.store.write.queue import Held


def rescue(store: Store, state: StateFolder, dispatch: Dispatch) -> None:
    """At boot, with the lock held: leave no attempt of ours open that no living launch holds."""
    home = state.identity()
    adopted, over = {}, []
    for row in queue.open_launches(store, home):
        plan = LaunchPlan(row.id, LaunchFolder(Path(row.folder)), row.device, row.world_size)
        running = dispatch.launcher.find(plan, row.pid, row.pid_start, row.external_id)
        if running is not None:
            adopted[row.id] = running
        else:
            over.append(row.id)
    interrupted = 0
    held_by_a_job = set()
    for held in queue.open_held(store, home):
        running = adopted.get(held.attempt.launch_id)
        if running is not None:
            held_by_a_job.add(held.attempt.launch_id)
            dispatch.adopt(running, held)
        else:
            interrupted += _end(dispatch, held, state.launches / held.attempt.launch_id)
    for launch in over:  # last: a launch that is over must not leave an attempt open, wherever we die
        queue.update_launch(store, launch, finished_at=iso(time.time()), reason="its daemon had died")
    for launch, running in adopted.items():
        if launch not in held_by_a_job:  # others did its work meanwhile
            dispatch.launcher.stop(running)
            queue.update_launch(store, launch, finished_at=iso(time.time()), reason="nothing left to do for it")
    if interrupted:
        dispatch.log.event("rescued", jobs=interrupted)


def rescue_lapsed(store: Store, state: StateFolder, dispatch: Dispatch) -> int:
    """On a server: give back what daemons hold whose lease has run out. Returns how many attempts that were."""
    home = state.identity()
    lapsed = queue.lapsed_held(store, home)
    interrupted = sum(_end(dispatch, held, None) for held in lapsed)
    leases.close_lapsed(store, home, iso(time.time()))
    if interrupted:
        dispatch.log.event("rescued", jobs=interrupted)
    return interrupted


def _end(dispatch: Dispatch, held: Held, folder: Path | None) -> bool:
    """Decide what became of an attempt nobody works on; True where it left no outcome. folder: where one may lie."""
    end = AttemptEnd(Cause.ORPHANED, False)
    if folder is not None:
        launch = LaunchFolder(folder)
        end = read_end(launch, held.attempt) or AttemptEnd(Cause.ORPHANED, launch.started(held.attempt.id).exists())
    policy = RetryPolicy(dispatch.settings.attempts, dispatch.settings.backoff_s)
    dispatch.apply(held, after_attempt(held.attempt.job, end, policy, 0.5), end)
    return end.outcome is None
