"""At boot: what an earlier daemon left. Outcomes that lie there are recorded; what still runs is ended (local) or
adopted (Slurm); every other open attempt is orphaned and its job queued again at once, uncharged.
"""

from __future__ import annotations

import time
from pathlib import Path

from evalcore.contract import LaunchFolder
from watcher.clock import iso
from watcher.dispatch import Dispatch, read_end
from watcher.jobs import AttemptEnd, Cause, RetryPolicy, after_attempt
from watcher.launch.protocol import LaunchPlan
from watcher.places import StateFolder
from watcher.store import queue
from watcher.store.engine import Store


def rescue(store: Store, state: StateFolder, dispatch: Dispatch) -> None:
    """Leave no attempt open that no living launch holds."""
    adopted = {}
    for row in queue.open_launches(store):
        plan = LaunchPlan(row.id, LaunchFolder(Path(row.folder)), row.device, row.world_size)
        running = dispatch.launcher.find(plan, row.pid, row.pid_start, row.external_id)
        if running is not None:
            adopted[row.id] = running
        else:
            queue.update_launch(store, row.id, finished_at=iso(time.time()), reason="its daemon had died")
    interrupted = 0
    for held in queue.open_held(store):
        attempt = held.attempt
        running = adopted.get(attempt.launch_id)
        if running is not None:
            dispatch.adopt(running, held)
            continue
        folder = LaunchFolder(state.launches / attempt.launch_id)
        end = read_end(folder, attempt) or AttemptEnd(Cause.ORPHANED, folder.started(attempt.id).exists())
        policy = RetryPolicy(dispatch.settings.attempts, dispatch.settings.backoff_s)
        move = after_attempt(attempt.job, end, policy, 0.5)
        dispatch.apply(held, move, end)
        interrupted += end.outcome is None
    if interrupted:
        dispatch.log.event("rescued", jobs=interrupted)
