"""All launches of one daemon: claim, launch, feed, reap.

Wires claiming, reaping and recording to launch/. Remembers nothing that the database and the launch folders do not.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from evalcore.launch_folder import LaunchFolder, write_atomically
from evalcore.messages import LaunchSpec, to_json
from watcher.domain.health import Paused
from watcher.domain.job import AttemptEnd, Cause, RetryPolicy
from watcher.domain.timestamps import iso
from watcher.failpoints import failpoint
from watcher.launch.cpus import usable_cpus
from watcher.launch.devices import Choice, DevicePool
from watcher.launch.protocol import CannotLaunch, Launcher, LaunchPlan, Running
from watcher.log import Log
from watcher.pipeline.claiming import Claimer, Unavailable
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.open_launch import SCRATCH, OpenLaunch, OpenTask
from watcher.pipeline.reaping import Reaper
from watcher.pipeline.recording import Recorder
from watcher.settings.schema import LaunchSettings, RunSettings
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import attempts, launches, queue
from watcher.store.write.claimed import ClaimedCheckpoint

AHEAD = 2  # checkpoints that a launch holds besides the current one: it reads the next file while it computes
LAUNCH_PAUSE_S = (2.0, 10.0, 60.0, 300.0)
DEVICE_POLL_S = 10.0
WAIT_LOG_FIRST_S, WAIT_LOG_MAX_S = 60.0, 3600.0  # "waiting for a device" is logged at doubling intervals
LINGER_GIVEN_S = 0.25  # `eval` feeds a launch twenty times a second, and nothing comes after the given files
LINGER_MIN_S = 1.0  # small checkpoints end between two ticks: without it, launches would be too many


@dataclass(frozen=True)
class DispatchSettings:
    """What the settings say about launches; replaced as a whole. only: claim nothing but these checkpoints."""

    launcher: Launcher
    launch: LaunchSettings
    runs: Mapping[str, RunSettings]
    spec: LaunchSpec
    keep_launches: int
    unavailable: Unavailable = lambda run: None
    only: tuple[int, ...] | None = None

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(self.launch.attempts, self.launch.backoff_s)


@dataclass
class DeviceWait:
    """Since when and why no launch can begin; when it is logged next (monotonic seconds)."""

    reason: str
    since_s: float
    log_s: float


@dataclass
class Dispatch:
    """`tick` does one round and never sleeps. Raises StoreUnavailable."""

    store: Store
    state: StateFolder
    settings: DispatchSettings
    owner: str
    log: Log
    isolation: Isolation
    live: dict[str, OpenLaunch] = field(default_factory=dict)
    launch_failures: int = 0  # in a row
    launch_failure: str = ""
    device_wait: DeviceWait | None = None
    _not_before_s: float = 0.0
    _leases_due_s: float = 0.0
    _choice: tuple[float, Choice] | None = None
    _devices: DevicePool = field(default_factory=DevicePool.of_this_machine, init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.store, self.log)
        self._claimer = Claimer(self.store)
        self._reaper = Reaper(self.store, self.log, self.recorder, self.isolation)

    def tick(self, now_s: float, paused: Paused | None = None) -> None:
        """Reap what ended or answered, feed what runs, begin a launch where there is work, unless paused."""
        self._keep_leases(now_s)
        for launch in list(self.live.values()):
            self.isolation.run(f"launch {launch.id}", now_s, partial(self._reap, launch, now_s))
        self._stop_cancelled()
        if paused is not None:
            return
        for launch in list(self.live.values()):
            self.isolation.run(f"feeding launch {launch.id}", now_s, partial(self._feed, launch))
        if len(self.live) < self.settings.launch.max_launches and now_s >= self._not_before_s:
            self.isolation.run("starting launches", now_s, partial(self._begin, now_s))

    def use(self, settings: DispatchSettings) -> None:
        """New settings hold for new launches; the running ones end what they hold and get nothing more."""
        self.settings, self._choice = settings, None
        for launch in self.live.values():
            launch.fed = False

    def adopt(self, running: Running, held: attempts.Held) -> None:
        """Take over an attempt of a launch that outlived its daemon."""
        launch = self.live.setdefault(running.plan.launch, OpenLaunch(running, self.settings.launcher, fed=False))
        launch.open[held.attempt.id] = OpenTask(held)

    def end(self, held: attempts.Held, end: AttemptEnd) -> None:
        """Record the end of an attempt that no launch here holds."""
        self.recorder.end(held, end, self.settings.policy, self.settings.unavailable)

    def stop_all(self, *, at_once: bool = False) -> None:
        for launch in self.live.values():
            launch.stop(Cause.RELEASED, at_once=at_once)

    def leave_running(self) -> None:
        """Let go of launches that outlive the daemon; the next start adopts them."""
        for name, launch in list(self.live.items()):
            if launch.launcher.survives_daemon:
                del self.live[name]

    def _keep_leases(self, now_s: float) -> None:
        """On a server: renew the leases. A launch that was taken from us is stopped; its answers are void."""
        if not (self.store.shared and self.live) or now_s < self._leases_due_s:
            return
        self._leases_due_s = now_s + launches.LEASE_S / 6
        kept = launches.renew(self.store, list(self.live))
        for name, launch in self.live.items():
            if name not in kept and launch.stopped is None:
                launch.stop(Cause.RELEASED)

    def _stop_cancelled(self) -> None:
        """Take cancelled tasks out of the items of their launches; stop a launch that is evaluating one."""
        for launch in self.live.values():
            fenced = attempts.fenced(self.store, list(launch.open))
            if new := [attempt for attempt in fenced if not launch.open[attempt].cancelled]:
                launch.take_out(new)
            current = next((t for t in launch.open.values() if t.cancelled and t.started_s is not None), None)
            if current is not None and launch.stopped is None:
                launch.stop(Cause.RELEASED)
                held = current.held
                facts = {"run": held.checkpoint.run, "path": held.checkpoint.shown_path}
                self.log.event("stopping", eval_set=held.eval_set, **facts)

    def _reap(self, launch: OpenLaunch, now_s: float) -> None:
        settings = self.settings
        reaped = self._reaper.look(launch, settings.launch, settings.unavailable, now_s)
        if reaped.began:
            self.launch_failures = 0
        if reaped.never_began is not None:
            self._cannot_launch(launch, reaped.never_began, now_s)
        if reaped.over:
            del self.live[launch.id]
            self.isolation.forget(f"launch {launch.id}")
            self.isolation.forget(f"feeding launch {launch.id}")
            self._prune_folders()

    def _begin(self, now_s: float) -> None:
        settings = self.settings
        if queue.next_due(self.store, list(settings.runs)) is None:
            self.device_wait = None
            return
        choice = self._device(now_s)
        if choice.wait_for:
            self._wait_for_device(choice.wait_for, now_s)
            return
        self.device_wait = None
        plan = self._plan(choice)
        claimed = self._claim(plan.launch, self._launch_row(plan))
        if claimed is None:
            return
        failpoint("after_claim")
        launch = self.live[plan.launch] = OpenLaunch(Running(plan), settings.launcher)  # whatever fails, a tick ends it
        launch.hold(claimed)
        try:
            plan.folder.create()
            if "TMPDIR" in plan.env:
                os.mkdir(plan.env["TMPDIR"], 0o700)
            spec = {**settings.spec.__dict__, "launch": plan.launch, "device": plan.device, "threads": plan.threads}
            spec["linger_s"] = max(settings.spec.linger_s, LINGER_MIN_S if settings.only is None else LINGER_GIVEN_S)
            write_atomically(plan.folder.spec, to_json(LaunchSpec(**spec)))
            launch.write_item(claimed, settings.runs[claimed.run].dir, self.state.spool)
            launch.running = settings.launcher.start(plan)
        except (CannotLaunch, OSError) as error:
            self._cannot_launch(launch, str(error), now_s)
            del self.live[plan.launch]
            return
        except Exception as error:
            del self.live[plan.launch]
            self._cannot_launch(launch, f"{type(error).__name__}: {error}", now_s)
            raise
        failpoint("after_spawn")
        running = launch.running
        facts = {"pid": running.pid, "pid_start": running.pid_start, "external_id": running.external_id}
        launches.update_launch(self.store, plan.launch, **facts)
        self.log.event("launched", launch=plan.launch, nproc=plan.nproc, device=plan.device)

    def _plan(self, choice: Choice) -> LaunchPlan:
        launch = self.settings.launch
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        folder = LaunchFolder(self.state.launches / name)
        # torchrun and its ranks leave folders in TMPDIR; below the launch folder they go when the launch ends
        env = {"TMPDIR": os.fspath(folder.root / SCRATCH)} if launch.executor == "local" else {}
        return LaunchPlan(
            *(name, folder, choice.device, launch.nproc, choice.devices, self._threads(choice.device), launch.nice),
            env=env,
            python=launch.python,
        )

    def _launch_row(self, plan: LaunchPlan) -> dict:
        return {
            "id": plan.launch,
            "owner": self.owner,
            "instance_id": self.state.identity(),
            "executor": self.settings.launch.executor,
            "folder": os.fspath(plan.folder.root),
            "device": plan.device,
            "world_size": plan.nproc,
            "started_at": iso(time.time()),
        }

    def _claim(self, launch: str, launch_row: dict | None = None, samples: bool = True) -> ClaimedCheckpoint | None:
        settings = self.settings
        orders = {name: run.order for name, run in settings.runs.items() if not settings.unavailable(name)}
        return self._claimer.claim(launch, orders, iso(time.time()), settings.only, launch_row, samples=samples)

    def _feed(self, launch: OpenLaunch) -> None:
        """Give a running launch the next checkpoints, as long as it takes any."""
        while launch.fed and launch.stopped is None and not launch.folder.closed.exists():
            ahead = launch.unstarted_checkpoints()
            # samples only for a launch that would wait: a loss that comes is claimed at once
            if ahead >= AHEAD or (claimed := self._claim(launch.id, samples=ahead == 0)) is None:
                return
            launch.hold(claimed)
            try:
                launch.write_item(claimed, self.settings.runs[claimed.run].dir, self.state.spool)
            except OSError as error:  # a full disk, say: this launch gets nothing more
                launch.fed = False
                reason = f"the launch folder cannot be written: {error.strerror}"
                for job in claimed.jobs:
                    held = launch.open.pop(job.attempt).held
                    self.end(held, AttemptEnd(Cause.RELEASED, False, None, reason))

    def _device(self, now_s: float) -> Choice:
        s = self.settings.launch
        if s.device == "cpu" or s.executor != "local":
            return Choice(s.device)
        if self._choice is None or now_s - self._choice[0] > DEVICE_POLL_S or not self._choice[1].wait_for:
            plans = [launch.running.plan for launch in self.live.values() if launch.running.plan.device != "cpu"]
            taken = {device for plan in plans for device in plan.devices or (plan.device,)}
            largest = queue.largest_waiting(self.store, list(self.settings.runs))
            self._choice = (now_s, self._devices.choose(s, taken, now_s, largest, self.settings.spec))
        return self._choice[1]

    def _wait_for_device(self, reason: str, now_s: float) -> None:
        if self.device_wait is None:
            self.device_wait = DeviceWait(reason, now_s, now_s)
        wait = self.device_wait
        wait.reason = reason
        if now_s >= wait.log_s:
            self.log.event("waiting_for_device", reason=reason, seconds=now_s - wait.since_s)
            wait.log_s = now_s + min(max(now_s - wait.since_s, WAIT_LOG_FIRST_S), WAIT_LOG_MAX_S)

    def _threads(self, device: str) -> int | None:
        s = self.settings.launch
        if s.threads is not None or device != "cpu" or s.executor != "local":
            return s.threads
        return max(1, usable_cpus() // s.nproc)

    def _cannot_launch(self, launch: OpenLaunch, reason: str, now_s: float) -> None:
        """Nothing of it began: no job is charged, and the whole queue waits a little."""
        pause_s = LAUNCH_PAUSE_S[min(self.launch_failures, len(LAUNCH_PAUSE_S) - 1)]
        self.launch_failures += 1
        self.launch_failure = reason
        self._not_before_s = now_s + pause_s
        self.log.event("launch_failed", reason=reason.splitlines()[-1] if reason else "no reason", pause_s=pause_s)
        settings = self.settings
        detail = "the launch never began"
        self._reaper.end_all(launch, Cause.RELEASED, detail, settings.policy, settings.unavailable)
        launches.update_launch(self.store, launch.id, finished_at=iso(time.time()), reason=reason[-4096:])

    def _prune_folders(self) -> None:
        try:
            names = sorted(os.listdir(self.state.launches))
        except OSError:
            return
        for name in names[: max(0, len(names) - self.settings.keep_launches)]:
            if name not in self.live:
                shutil.rmtree(self.state.launches / name, ignore_errors=True)
