"""From the queue to the results: claim, launch, reap, decide, record (steps 5 to 10 of the way).

Wires store/ to launch/ and asks jobs.py what every end means. The outcome files are the truth; nothing here remembers
anything that the database and the launch folders do not.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evalcore.launch_folder import LaunchFolder, write_atomically
from evalcore.messages import Item, LaunchSpec, Task, to_json
from watcher.domain.job import AttemptEnd, Cause, RetryPolicy, State, Transition, after_attempt
from watcher.domain.order import fill_order
from watcher.domain.timestamps import iso
from watcher.failpoints import failpoint
from watcher.launch.devices import Choice, choose, list_gpus
from watcher.launch.protocol import CannotLaunch, Ended, Launcher, LaunchPlan, Running
from watcher.log import Log
from watcher.pipeline.open_launch import OpenLaunch, OpenTask, read_end
from watcher.settings.schema import LaunchSettings, RunSettings
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import leases, queue, results, round_robin
from watcher.store.write.queue import ClaimedCheckpoint, Held, OpenAttempt

AHEAD = 2  # checkpoints that a launch holds besides the one in hand: it reads the next file while it computes
LAUNCH_PAUSE_S = (2.0, 10.0, 60.0, 300.0)
DEVICE_POLL_S = 10.0
LINGER_MIN_S = 1.0  # small checkpoints are done faster than we look: each few would cost a launch of their own


@dataclass
class Dispatch:
    """All launches of one daemon. `tick` does one round and never sleeps."""

    store: Store
    state: StateFolder
    launcher: Launcher
    settings: LaunchSettings
    runs: dict[str, RunSettings]
    spec: LaunchSpec
    owner: str
    log: Log
    paused: str | None = None
    waiting_for: str | None = None
    launch_failures: int = 0
    launch_failure: str = ""
    live: dict[str, OpenLaunch] = field(default_factory=dict)
    keep_launches: int = 200
    only: list[int] | None = None  # claim nothing but these checkpoints
    away: Callable[[str], str | None] = lambda run: None  # why a run's files cannot be judged now: nothing is claimed
    _not_before_s: float = 0.0
    _leases_due_s: float = 0.0
    _served: dict[str, int] = field(default_factory=dict)  # run -> when its turn came last, as a count of turns
    _choice: tuple[float, Choice] | None = None

    def tick(self, now_s: float) -> None:
        """Reap what ended or answered, feed what runs, begin a launch where there is work. Raises StoreUnavailable."""
        self._keep_leases(now_s)
        for live in list(self.live.values()):
            self._reap(live, now_s)
        self._give_up_cancelled()
        if self.paused:
            return
        for live in self.live.values():
            self._feed(live)
        if len(self.live) < self.settings.max_launches and now_s >= self._not_before_s:
            self._begin(now_s)

    def _keep_leases(self, now_s: float) -> None:
        """On a server: say that we live. A launch that was taken from us meanwhile is stopped; its answers are void."""
        if not (self.store.shared and self.live) or now_s < self._leases_due_s:
            return
        self._leases_due_s = now_s + leases.LEASE_S / 6
        kept = leases.renew(self.store, list(self.live))
        for launch, live in self.live.items():
            if launch not in kept and live.stopped is None:
                live.stopped = Cause.RELEASED
                self.launcher.stop(live.running)

    def _give_up_cancelled(self) -> None:
        """What a person cancelled is taken out of what is to come; a launch that is at work on it is stopped."""
        for live in self.live.values():
            gone = queue.fenced(self.store, list(live.open))
            if new := [attempt for attempt in gone if not live.open[attempt].cancelled]:
                live.take_out(new)
            in_hand = next((o for o in live.open.values() if o.cancelled and o.started_s is not None), None)
            if in_hand is not None and live.stopped is None:
                live.stopped = Cause.RELEASED
                self.launcher.stop(live.running)
                self.log.event("stopping", path=in_hand.held.checkpoint.shown_path, eval_set=in_hand.held.eval_set)

    def stop_all(self, *, at_once: bool = False) -> None:
        for live in self.live.values():
            live.stopped = live.stopped or Cause.RELEASED
            self.launcher.stop(live.running, at_once=at_once)

    def reconfigure(self, settings: LaunchSettings, runs: dict[str, RunSettings], spec: LaunchSpec) -> None:
        """New settings hold for new launches; those that run end what they hold and get nothing more."""
        self.settings, self.runs, self.spec, self._choice = settings, runs, spec, None
        for live in self.live.values():
            live.fed = False

    def adopt(self, running: Running, held: Held) -> None:
        """Take over an attempt of a launch that outlived its daemon."""
        live = self.live.setdefault(running.plan.launch, OpenLaunch(running, fed=False))
        live.open[held.attempt.id] = OpenTask(held)

    # -- claim and launch ------------------------------------------------------------------------------------------

    def _begin(self, now_s: float) -> None:
        if queue.next_due(self.store, list(self.runs)) is None:
            return
        choice = self._device(now_s)
        if choice.wait_for:
            if choice.wait_for != self.waiting_for:
                self.log.event("waiting_for_device", reason=choice.wait_for)
            self.waiting_for = choice.wait_for
            return
        self.waiting_for = None
        launch = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        folder = LaunchFolder(self.state.launches / launch)
        plan = LaunchPlan(
            launch,
            folder,
            choice.device,
            self.settings.nproc,
            choice.devices,
            self._threads(choice.device),
            self.settings.nice,
            python=self.settings.python,
        )
        claimed = self._claim(launch, self._launch_row(plan))
        if claimed is None:
            return
        failpoint("after_claim")
        live = self.live[launch] = OpenLaunch(Running(plan))  # held from here on: whatever fails, the next tick ends it
        self._hold(live, claimed)
        try:
            folder.create()
            spec = {**self.spec.__dict__, "launch": launch, "device": choice.device, "threads": plan.threads}
            spec["linger_s"] = max(self.spec.linger_s, LINGER_MIN_S)
            write_atomically(folder.spec, to_json(LaunchSpec(**spec)))
            self._write_item(live, claimed)
            live.running = self.launcher.start(plan)
        except (CannotLaunch, OSError) as error:
            self._cannot_launch(live, str(error), now_s)
            del self.live[launch]
            return
        failpoint("after_spawn")
        running = live.running
        facts = {"pid": running.pid, "pid_start": running.pid_start, "external_id": running.external_id}
        queue.update_launch(self.store, launch, **facts)
        self.log.event("launched", launch=launch, nproc=plan.nproc, device=plan.device)

    def _launch_row(self, plan: LaunchPlan) -> dict:
        return {
            "id": plan.launch,
            "owner": self.owner,
            "home": self.state.identity(),
            "executor": self.settings.executor,
            "folder": os.fspath(plan.folder.root),
            "device": plan.device,
            "world_size": plan.nproc,
            "started_at": iso(time.time()),
        }

    def _claim(self, launch: str, opens: dict | None = None) -> ClaimedCheckpoint | None:
        """The next checkpoint for this launch. opens: the launch's own row, where it begins with it."""
        now = iso(time.time())
        if self.only is not None:
            oldest = dict.fromkeys(self.runs, "oldest")
            return queue.claim_next(self.store, oldest, launch, now, self.only, opens)
        order = {name: run.order for name, run in self.runs.items() if not self.away(name)}
        if not order:
            return None
        waiting = round_robin.runs_waiting(self.store, list(order), now) if len(order) > 1 else list(order)
        # in turn, the longest unserved first: no run's newest checkpoint waits behind another's whole backlog
        for name in sorted(waiting, key=lambda name: self._served.get(name, 0)):
            if claimed := self._claim_of(name, order[name], launch, now, opens):
                self._served[name] = max(self._served.values(), default=0) + 1
                return claimed
        return None

    def _claim_of(self, run: str, order: str, launch: str, now: str, opens: dict | None) -> ClaimedCheckpoint | None:
        """The run's next checkpoint by its own order."""
        if order == "fill" and (waiting := round_robin.waiting_steps(self.store, run, now)):
            first = fill_order(list(waiting), round_robin.finished_steps(self.store, run))[0]
            if claimed := queue.claim_next(self.store, {run: order}, launch, now, [waiting[first]], opens):
                return claimed
        return queue.claim_next(self.store, {run: order}, launch, now, None, opens)

    def _feed(self, live: OpenLaunch) -> None:
        """Give a running launch the next checkpoints, as long as it takes any."""
        while live.fed and live.stopped is None and not live.folder.closed.exists():
            waiting = [o for o in live.open.values() if o.started_s is None and not o.cancelled]
            unstarted = {o.held.checkpoint.id for o in waiting}
            if len(unstarted) >= AHEAD or (claimed := self._claim(live.running.plan.launch)) is None:
                return
            self._hold(live, claimed)
            try:
                self._write_item(live, claimed)
            except OSError as error:  # a full disk, say: this launch gets nothing more
                live.fed = False
                self._release(live, claimed, f"the launch folder cannot be written: {error.strerror}")

    def _release(self, live: OpenLaunch, claimed: ClaimedCheckpoint, reason: str) -> None:
        for job in claimed.jobs:
            self._end(live.open[job.attempt].held, AttemptEnd(Cause.RELEASED, False, None, reason))
            del live.open[job.attempt]

    def _hold(self, live: OpenLaunch, claimed: ClaimedCheckpoint) -> None:
        for job in claimed.jobs:
            attempt = OpenAttempt(job.attempt, job.token, live.running.plan.launch, job.facts)
            live.open[job.attempt] = OpenTask(Held(attempt, claimed, job.eval_set))

    def _write_item(self, live: OpenLaunch, claimed: ClaimedCheckpoint) -> None:
        live.items += 1
        tasks = tuple(Task(job.attempt, job.token, job.eval_set) for job in claimed.jobs)
        original = os.path.join(self.runs[claimed.run].dir, claimed.path)
        copy = claimed.spool_path  # which lies on another host where that one registered it
        path = copy if copy is not None and os.path.exists(copy) else original
        item = Item(path, claimed.digest, claimed.size_bytes, tasks, claimed.shown_path, beside=original)
        write_atomically(live.folder.item(live.items), to_json(item))

    def _device(self, now_s: float) -> Choice:
        s = self.settings
        if s.device == "cpu" or s.executor != "local":
            return Choice(s.device)
        if self._choice is None or now_s - self._choice[0] > DEVICE_POLL_S or not self._choice[1].wait_for:
            when = "free" if s.when == "after_training" else s.when
            choice = choose(s.device, s.devices, s.nproc, s.reserve_bytes, when, s.fallback, list_gpus())
            self._choice = (now_s, choice)
        return self._choice[1]

    def _threads(self, device: str) -> int | None:
        if self.settings.threads is not None or device != "cpu" or self.settings.executor != "local":
            return self.settings.threads
        return max(1, len(os.sched_getaffinity(0)) // self.settings.nproc)

    def _cannot_launch(self, live: OpenLaunch, reason: str, now_s: float) -> None:
        """Nothing of it began: no job is charged, and the whole queue waits a little."""
        pause_s = LAUNCH_PAUSE_S[min(self.launch_failures, len(LAUNCH_PAUSE_S) - 1)]
        self.launch_failures += 1
        self.launch_failure = reason
        self._not_before_s = now_s + pause_s
        self.log.event("launch_failed", reason=reason.splitlines()[-1] if reason else "no reason", pause_s=pause_s)
        self._end_all(live, Cause.RELEASED, "the launch never began")
        queue.update_launch(self.store, live.running.plan.launch, finished_at=iso(time.time()), reason=reason[-4096:])

    # -- reap and record -------------------------------------------------------------------------------------------

    def _reap(self, live: OpenLaunch, now_s: float) -> None:
        ended = self.launcher.poll(live.running)  # before the last look at the outcomes, not after
        self._look_at_progress(live, now_s)
        for attempt_id in list(live.open):
            self._look_at(live, attempt_id, now_s)
        if ended is None:
            self._watch_the_clock(live, now_s)
            return
        self._after_end(live, ended, now_s)

    def _after_end(self, live: OpenLaunch, ended: Ended, now_s: float) -> None:
        launch = live.running.plan.launch
        if live.open and not live.ever_started and live.stopped is None:
            self._cannot_launch(live, f"{ended.tail}\n{ended.reason}".strip(), now_s)
        else:
            tail = ended.tail.splitlines()[-1][:300] if ended.tail and live.open else ""
            self._end_all(live, live.stopped or ended.cause, f"{ended.reason}; {tail}".strip("; "))
            values = {"exit_code": ended.exit_code, "reason": ended.reason, "finished_at": iso(time.time())}
            queue.update_launch(self.store, launch, **values)
        del self.live[launch]
        self.log.event("launch_ended", launch=launch, reason=ended.reason)
        self._prune_folders()

    def _look_at(self, live: OpenLaunch, attempt_id: int, now_s: float) -> None:
        this = live.open[attempt_id]
        checkpoint, eval_set = this.held.checkpoint, this.held.eval_set
        if this.started_s is None and live.folder.started(attempt_id).exists():
            queue.started(self.store, attempt_id, iso(time.time()))
            this.started_s = live.progress_s = now_s
            live.ever_started = True
            failpoint("after_started")
            self.launch_failures = 0
            self.log.event("evaluating", path=checkpoint.shown_path, step=checkpoint.step, eval_set=eval_set)
        end = read_end(live.folder, this.held.attempt)
        if end is not None:
            live.progress_s, live.ever_started = now_s, True
            self._end(this.held, end)
            del live.open[attempt_id]

    def _look_at_progress(self, live: OpenLaunch, now_s: float) -> None:
        try:
            mtime_ns = live.folder.progress.stat().st_mtime_ns
        except OSError:
            return
        if mtime_ns != live.progress_mtime_ns:
            live.progress_mtime_ns, live.progress_s = mtime_ns, now_s

    def _watch_the_clock(self, live: OpenLaunch, now_s: float) -> None:
        if live.stopped is not None:
            self.launcher.stop(live.running)
            return
        if live.running.waiting:
            live.progress_s = now_s
        begun = [o.started_s for o in live.open.values() if o.started_s is not None]
        if begun and now_s - min(begun) > self.settings.timeout_s:
            live.stopped = Cause.TIMEOUT
        elif live.open and now_s - live.progress_s > self.settings.stall_s:
            live.stopped = Cause.STALLED
        if live.stopped is not None:
            self.launcher.stop(live.running)

    def _end_all(self, live: OpenLaunch, cause: Cause, detail: str) -> None:
        for attempt_id in list(live.open):
            this = live.open[attempt_id]
            self._end(this.held, AttemptEnd(cause, this.started_s is not None, None, detail))
            del live.open[attempt_id]

    def _end(self, held: Held, end: AttemptEnd) -> None:
        policy = RetryPolicy(self.settings.attempts, self.settings.backoff_s)
        move = after_attempt(held.attempt.job, end, policy, random.random())
        if move.kind == "vanished" and (why := self.away(held.checkpoint.run)):
            move = Transition(State.QUEUED, "released", reason=why)  # not this file is gone: the whole folder is
        self.apply(held, move, end)

    def apply(self, held: Held, move: Transition, end: AttemptEnd) -> None:
        """Write a transition, with its result where it has one, and say it."""
        attempt, checkpoint = held.attempt, held.checkpoint
        now_s = time.time()
        now = iso(now_s)
        facts = {"path": checkpoint.shown_path, "eval_set": held.eval_set}
        measured = end.outcome.measurement if end.outcome else None
        if move.records and measured is not None:
            failpoint("before_record")
            if results.record(self.store, attempt, move, measured, now, run=checkpoint.run) is None:
                self.log.event("rejected", **facts)
                return
            failpoint("after_record")
            loss = f"{measured.loss:.4f}" if measured.finite else f"{measured.loss} (not finite)"
            ppl = f"{measured.ppl:.2f}" if measured.ppl is not None else "-"
            numbers = {"loss": loss, "ppl": ppl, "tokens": measured.tokens, "seconds": measured.eval_seconds}
            self.log.event("recorded", step=checkpoint.step, **facts, **numbers)
            return
        failpoint("before_end")
        not_before = iso(now_s + move.pause_s) if move.pause_s else None
        queue.end_attempts(self.store, [(attempt, move, not_before)], now)
        if move.state is State.FAILED:
            self.log.event("failed", kind=move.kind, reason=move.reason or "", **facts)
        elif move.state is State.CANCELLED:
            self.log.event("cancelled", reason=move.reason or "", **facts)
        elif move.charge:
            self.log.event("retry", pause_s=move.pause_s, kind=move.kind, reason=move.reason or "", **facts)

    def _prune_folders(self) -> None:
        names = sorted(os.listdir(self.state.launches))
        for name in names[: max(0, len(names) - self.keep_launches)]:
            if name not in self.live:
                shutil.rmtree(self.state.launches / name, ignore_errors=True)
