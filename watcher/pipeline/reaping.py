"""Reads the results of a launch: started marks, outcome files, timeouts, and its exit.

The outcome files are the truth, the exit code a hint. Ends attempts through recording.py; starts nothing.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from watcher.domain.job import AttemptEnd, Cause, RetryPolicy
from watcher.domain.timestamps import iso
from watcher.errors import CkptwatchError
from watcher.failpoints import failpoint
from watcher.launch.protocol import Ended
from watcher.log import Log
from watcher.pipeline.claiming import Unavailable
from watcher.pipeline.isolation import Isolation, first_line
from watcher.pipeline.open_launch import SCRATCH, OpenLaunch, read_end
from watcher.pipeline.recording import Recorder
from watcher.settings.schema import LaunchSettings
from watcher.store.engine import Store
from watcher.store.write import attempts, launches


@dataclass(frozen=True)
class Reaped:
    """One look at a launch. began: a worker started on an attempt. never_began: why nothing of it ever did."""

    over: bool = False
    began: bool = False
    never_began: str | None = None


@dataclass(frozen=True)
class Reaper:
    """Looks at one open launch at a time."""

    store: Store
    log: Log
    recorder: Recorder
    isolation: Isolation

    def look(self, launch: OpenLaunch, settings: LaunchSettings, unavailable: Unavailable, now_s: float) -> Reaped:
        """Record what the launch has answered, and stop it where it is too slow. now_s: monotonic."""
        policy = RetryPolicy(settings.attempts, settings.backoff_s)
        ended = launch.launcher.poll(launch.running)  # before the last look at the outcomes, not after
        self._note_progress(launch, now_s)
        began = False
        for attempt in list(launch.open):
            try:
                began |= self._look_at_attempt(launch, attempt, policy, unavailable, now_s)
            except CkptwatchError:
                raise
            except Exception as error:
                self._give_up(launch, attempt, error, policy, unavailable, now_s)
        if ended is None:
            self._stop_if_late(launch, settings, now_s)
            return Reaped(began=began)
        return self._finish(launch, ended, policy, unavailable, began)

    def end_all(
        self, launch: OpenLaunch, cause: Cause, detail: str, policy: RetryPolicy, unavailable: Unavailable
    ) -> None:
        """End every open attempt of the launch for this cause."""
        for attempt in list(launch.open):
            task = launch.open[attempt]
            self.recorder.end(
                task.held, AttemptEnd(cause, task.started_s is not None, None, detail), policy, unavailable
            )
            del launch.open[attempt]

    def _look_at_attempt(
        self, launch: OpenLaunch, attempt: int, policy: RetryPolicy, unavailable: Unavailable, now_s: float
    ) -> bool:
        task = launch.open[attempt]
        began = task.started_s is None and launch.folder.started(attempt).exists()
        if began:
            attempts.started(self.store, attempt, iso(time.time()))
            task.started_s = launch.progress_s = now_s
            launch.ever_started = True
            failpoint("after_started")
            checkpoint = task.held.checkpoint
            facts = {"run": checkpoint.run, "path": checkpoint.shown_path, "step": checkpoint.step}
            self.log.event("evaluating", **facts, eval_set=task.held.eval_set)
        end = read_end(launch.folder, task.held.attempt)
        if end is not None:
            launch.progress_s, launch.ever_started = now_s, True
            self.recorder.end(task.held, end, policy, unavailable)
            del launch.open[attempt]
        return began

    def _give_up(
        self,
        launch: OpenLaunch,
        attempt: int,
        error: Exception,
        policy: RetryPolicy,
        unavailable: Unavailable,
        now_s: float,
    ) -> None:
        """An answer that cannot be recorded costs its own job an attempt, and no other job anything."""
        task = launch.open[attempt]
        self.isolation.note(f"attempt {attempt} of {task.held.checkpoint.shown_path}", error, now_s)
        end = AttemptEnd(Cause.PROTOCOL, True, None, first_line(error))
        self.recorder.end(task.held, end, policy, unavailable)
        del launch.open[attempt]

    def _note_progress(self, launch: OpenLaunch, now_s: float) -> None:
        try:
            mtime_ns = launch.folder.progress.stat().st_mtime_ns
        except OSError:
            return
        if mtime_ns != launch.progress_mtime_ns:
            launch.progress_mtime_ns, launch.progress_s = mtime_ns, now_s

    def _stop_if_late(self, launch: OpenLaunch, settings: LaunchSettings, now_s: float) -> None:
        if launch.stopped is not None:
            launch.stop(launch.stopped)
            return
        if launch.running.waiting:
            launch.progress_s = now_s
        started = [task.started_s for task in launch.open.values() if task.started_s is not None]
        if started and now_s - min(started) > settings.timeout_s:
            launch.stop(Cause.TIMEOUT)
        elif launch.open and now_s - launch.progress_s > settings.stall_s:
            launch.stop(Cause.STALLED)

    def _finish(
        self, launch: OpenLaunch, ended: Ended, policy: RetryPolicy, unavailable: Unavailable, began: bool
    ) -> Reaped:
        never_began = None
        if launch.open and not launch.ever_started and launch.stopped is None:
            never_began = f"{ended.tail}\n{ended.reason}".strip()
        else:
            tail = ended.tail.splitlines()[-1][:300] if ended.tail and launch.open else ""
            cause = launch.stopped or ended.cause
            if not launch.folder.root.exists():
                cause, tail = Cause.ORPHANED, "its launch folder was removed"
            self.end_all(launch, cause, f"{ended.reason}; {tail}".strip("; "), policy, unavailable)
            values = {"exit_code": ended.exit_code, "reason": ended.reason, "finished_at": iso(time.time())}
            launches.update_launch(self.store, launch.id, **values)
        shutil.rmtree(launch.folder.root / SCRATCH, ignore_errors=True)
        self.log.event("launch_ended", launch=launch.id, reason=ended.reason)
        return Reaped(over=True, began=began, never_began=never_began)
