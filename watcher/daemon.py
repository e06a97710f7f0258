"""The wiring: boot (lock, migrate, rescue), tick (one round of everything, without sleeping), run (tick and wait).

Decides nothing itself: rules stand in jobs.py, policy.py, health.py, settle.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evalcore.contract import EvalSetSpec, LaunchSpec, write_atomically
from watcher import inbox
from watcher.clock import iso, seconds
from watcher.config import Settings
from watcher.detect.pin import Spool
from watcher.dispatch import Dispatch
from watcher.errors import CkptwatchError, EnvironmentProblem, StoreUnavailable
from watcher.evalsets import missing_files, resolve_model, resolve_sets
from watcher.failpoints import reach
from watcher.health import Facts, Health, RunFacts, judge
from watcher.intake import Intake
from watcher.launch import processes
from watcher.launch.local import LocalLauncher
from watcher.launch.protocol import Launcher
from watcher.lock import Lock
from watcher.log import Log
from watcher.notify import Notifier
from watcher.places import StateFolder
from watcher.rescue import rescue
from watcher.store import queue, registry
from watcher.store.engine import Store, sqlite_path
from watcher.store.migrate import open_for_writing

ACTIVE_POLL_S = 0.2  # while a launch runs: outcome files do not wake us
IDLE_POLL_S = 5.0
STOP_GRACE_S = 10.0
HEALTH_EVERY_S = 5.0


@dataclass
class Daemon:
    """One daemon over one database. `once`: a single pass, in which nothing is waited for that may never come."""

    settings: Settings
    url: str
    state: StateFolder
    log: Log
    once: bool = False
    reload_settings: Callable[[], Settings] | None = None
    wake: threading.Event = field(default_factory=threading.Event)
    intakes: list[Intake] = field(default_factory=list)
    stop_signals: int = 0
    store_trouble: str | None = None
    dispatch: Dispatch = None  # type: ignore[assignment]  # made by boot
    _reload: bool = False
    _health: tuple[float, Health | None] = (-1e9, None)
    _paused: bool = False

    # -- boot ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Take the lock, bring the database up to date, end or adopt what an earlier daemon left, begin to watch."""
        self.notifier = Notifier()
        self.state.create()
        folders = {self.state.root}
        if sqlite_path(self.url) is not None:  # wherever the state folder was chosen to be: one daemon for one database
            folders.add(StateFolder.beside(self.url).root)
        self.locks = []
        for folder in sorted(folders):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.locks.append(Lock(StateFolder(folder).lock))
            self.locks[-1].take()
        self.store: Store = open_for_writing(self.url)
        reach("after_migration_commit")
        processes.become_subreaper()
        self.launcher: Launcher = make_launcher(self.settings)
        self.spool = Spool(self.state.spool, self.settings.store.spool_max_bytes)
        self.started_s = time.time()
        self._configure()
        rescue(self.store, self.state, self.dispatch)
        self.spool.sweep(registry.pinned_paths(self.store))
        for intake in self.intakes:
            intake.start()
        dirs = ", ".join(str(run.dir) for run in self.settings.run)
        self.log.event("daemon_started", dirs=dirs, database=self.url)

    def _configure(self) -> None:
        """Everything that follows from the settings: sets and their digests, model, launches, runs."""
        s = self.settings
        self.specs: list[EvalSetSpec] = resolve_sets(s.eval, self.state.root / "data_digests.json")
        model = resolve_model(s.model)
        spec = LaunchSpec(
            launch="",
            eval_sets=tuple(self.specs),
            model=model,
            device=s.launch.device,
            batch_size=None if s.launch.batch_size == "auto" else s.launch.batch_size,
            linger_s=s.launch.linger_s,
            verify=s.launch.verify,
            require_zip=s.launch.require_zip,
            cache_dir=os.fspath(self.state.token_cache),
            selfcheck=s.launch.selfcheck,
        )
        owner = f"{socket.gethostname()}:{processes.boot_id()}:{os.getpid()}"
        runs = {run.name: run for run in s.run}
        if self.dispatch is None:
            self.dispatch = Dispatch(self.store, self.state, self.launcher, s.launch, runs, spec, owner, self.log)
        self.dispatch.reconfigure(s.launch, runs, spec)
        self.dispatch.keep_launches = s.store.keep_launches
        now = iso(time.time())
        wanted = [(spec, spec.digest(model)) for spec in self.specs]
        self.intakes = []
        for run in s.run:
            intake = Intake(run, self.store, self.spool, self.log, self.wake, patient=not self.once)
            intake.sets = registry.adopt_eval_sets(self.store, run.name, wanted, now)
            self.intakes.append(intake)

    # -- one round -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Everything once, without sleeping. A database that is away pauses it; the next tick tries again."""
        try:
            for intake in self.intakes:
                intake.tick(now_s)
            self._obey_inbox()
            self.dispatch.paused = self._why_paused()
            self.dispatch.tick(now_s)
            self._release_pins()
            if self.store_trouble:
                self.log.event("healed", reason="the database can be used again")
                self.store_trouble = None
        except StoreUnavailable as error:
            if self.store_trouble != error.cause:
                self.store_trouble = error.cause
                self.log.event("paused", reason=error.cause)
        self._tell_health(now_s)
        self.notifier.ping()

    def _why_paused(self) -> str | None:
        if self._paused or (self.state.root / "paused").exists():
            return "by a person"
        missing = [path for spec in self.specs for path in missing_files(spec)]
        return f"validation data cannot be read: {', '.join(missing)}" if missing else None

    def _obey_inbox(self) -> None:
        for path, order in inbox.take(self.state.inbox):
            apply_order(self.store, self.state, order)
            path.unlink(missing_ok=True)
            self.log.event("queue_changed", action=order.action, jobs=len(order.jobs))

    def _release_pins(self) -> None:
        if self.dispatch.live or not any(self.state.spool.iterdir()):
            return
        for checkpoint_id, path in registry.unneeded_pins(self.store):
            registry.keep_pinned(self.store, checkpoint_id, None)
            self.spool.release(Path(path))

    # -- run -------------------------------------------------------------------------------------------------------

    def run(self, finished: Callable[[Daemon], bool] = lambda daemon: False) -> None:
        """Tick until a signal or `finished` says stop; then end in good order."""
        self._obey_signals()
        try:
            while not self.stop_signals:
                self.wake.clear()
                self.tick(time.monotonic())
                if self.intakes_scanned():
                    self.notifier.ready()
                if finished(self):
                    break
                if self._reload:
                    self._reload_now()
                self.wake.wait(self._pause_s(time.monotonic()))
        finally:
            self.stop()

    def intakes_scanned(self) -> bool:
        return all(intake.gatherer.scans for intake in self.intakes)

    def idle_s(self) -> float:
        """Seconds since the newest checkpoint was registered (or the start)."""
        return time.monotonic() - max((intake.last_new_s for intake in self.intakes), default=0.0)

    def scan_soon(self) -> None:
        for intake in self.intakes:
            intake.watch.scan_soon()

    def scanned_since(self, at_s: float) -> bool:
        return all((report := i.gatherer.last_report) is not None and report.at_s >= at_s for i in self.intakes)

    def settled_down(self) -> bool:
        """Nothing left to settle, to evaluate or to retry."""
        if self.store_trouble or self.dispatch.live or not all(intake.idle() for intake in self.intakes):
            return False
        if queue.next_due(self.store) is None:
            return not any(
                queue.revive_newest(self.store, run.name, iso(time.time()))
                for run in self.settings.run
                if run.every > 1
            )
        if self.once and self.dispatch.launch_failures >= 3:
            raise EnvironmentProblem(
                f"torchrun cannot be started: {self.dispatch.launch_failure.splitlines()[-1]}",
                tried=f"{self.dispatch.launch_failures} launches; their logs are in {self.state.launches}",
                hint="ckptwatch doctor",
            )
        if self.once and self.dispatch.paused:
            raise EnvironmentProblem(f"the queue is paused: {self.dispatch.paused}", hint="ckptwatch queue resume")
        return False

    def stop(self) -> None:
        """No new claims; launches are asked, then made to end; their jobs go back to the queue uncharged."""
        self.notifier.stopping()
        for intake in self.intakes:
            intake.stop()
        self.dispatch.paused = "stopping"
        deadline_s = time.monotonic() + STOP_GRACE_S
        at_once = self.stop_signals > 1
        self.dispatch.stop_all(at_once=at_once)
        while self.dispatch.live and time.monotonic() < deadline_s + 3:
            if (self.stop_signals > 1 or time.monotonic() > deadline_s) and not at_once:
                at_once = True
                self.dispatch.stop_all(at_once=True)
            try:
                self.dispatch.tick(time.monotonic())
            except StoreUnavailable:
                pass  # the next start finds the outcome files
            self.wake.clear()
            self.wake.wait(0.05)
        self._write_health(Health("stopped", ()), time.time())
        self.store.close()
        for lock in self.locks:
            lock.release()
        self.log.event("daemon_stopped", reason="signal" if self.stop_signals else "done")

    def _pause_s(self, now_s: float) -> float:
        if self.dispatch.live:
            return ACTIVE_POLL_S
        if self.store_trouble:
            return 1.0
        pause_s = self.notifier.watchdog_s or IDLE_POLL_S
        dues = [due for intake in self.intakes if (due := intake.next_due_s()) is not None]
        if dues:
            pause_s = min(pause_s, max(min(dues) - now_s, 0.02))
        waiting = queue.next_due(self.store)
        if waiting is not None and not self.dispatch.paused:
            wait_s = max(seconds(waiting) - time.time(), 0.02) if waiting else 0.5
            pause_s = min(pause_s, wait_s)
        return min(pause_s, IDLE_POLL_S)

    def _obey_signals(self) -> None:
        def stop(number: int, _frame: object) -> None:
            self.stop_signals += 1
            self.wake.set()

        def reload(number: int, _frame: object) -> None:
            self._reload = True
            self.wake.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGCHLD, lambda *_: self.wake.set())
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _reload_now(self) -> None:
        """SIGHUP: read the settings again; what is wrong with them is said, and the old ones stay."""
        self._reload = False
        if self.reload_settings is None:
            return
        self.notifier.reloading()
        try:
            settings = self.reload_settings()
            resolve_sets(settings.eval, self.state.root / "data_digests.json")
            resolve_model(settings.model)
        except CkptwatchError as error:
            self.log.event("settings_refused", reason=error.cause)
        else:
            for intake in self.intakes:
                intake.stop()
            self.settings = settings
            self._configure()
            for intake in self.intakes:
                intake.start()
            self.log.event("settings_reloaded", file="the configuration file")
        self.notifier.ready()

    # -- health ----------------------------------------------------------------------------------------------------

    def _tell_health(self, now_s: float) -> None:
        said_s, before = self._health
        if now_s - said_s < HEALTH_EVERY_S and not (self.store_trouble and before and before.state == "ok"):
            return
        health = judge(self._facts(now_s))
        self._health = (now_s, health)
        self._write_health(health, time.time())
        counts = self._counts
        words = f"{health.state}: {counts.get('queued', 0)} queued, {counts.get('running', 0)} running, "
        words += f"{counts.get('succeeded', 0)} done, {counts.get('failed', 0)} failed"
        self.notifier.status("; ".join([words, *health.reasons[:2]]))

    def _facts(self, now_s: float) -> Facts:
        runs = []
        for intake in self.intakes:
            report, watch = intake.gatherer.last_report, intake.watch
            age_s = now_s - (report.at_s if report else intake.last_new_s)
            interval_s = max(intake.run.scan_s, (report.seconds if report else 0) / 0.003)
            runs.append(
                RunFacts(
                    *(intake.run.name, str(intake.run.dir), age_s, interval_s, intake.dir_missing),
                    *(watch.polling_because, watch.overflows),
                )
            )
        free = os.statvfs(self.state.root)
        missing = self.dispatch.paused if (self.dispatch.paused or "").startswith("validation data") else None
        failure = self.dispatch.launch_failure if self.dispatch.launch_failures >= 2 else None
        return Facts(
            runs=runs,
            database=self.store_trouble,
            paused_by_person=self.dispatch.paused == "by a person",
            data_missing=[missing.split(": ", 1)[1]] if missing else [],
            launch_failure=failure.splitlines()[-1] if failure else None,
            waiting_for_device=self.dispatch.waiting_for,
            state_free_bytes=free.f_bavail * free.f_frsize,
        )

    @property
    def _counts(self) -> dict[str, int]:
        try:
            return queue.count_by_state(self.store)
        except StoreUnavailable:
            return {}

    def _write_health(self, health: Health, now_s: float) -> None:
        runs = [
            {
                "name": intake.run.name,
                "dir": str(intake.run.dir),
                "last_scan_age_s": time.monotonic() - report.at_s if (report := intake.gatherer.last_report) else None,
                "scan_seconds": report.seconds if report else None,
                "matching": report.matching if report else None,
                "ignored": dict(report.ignored) if report else {},
                "settling": len(intake.gatherer.settler.candidates),
                "overflows": intake.watch.overflows,
            }
            for intake in self.intakes
        ]
        launches = [
            {"id": id_, "folder": str(live.folder.root), "device": live.running.plan.device, "items": live.items}
            for id_, live in self.dispatch.live.items()
        ]
        said = {
            "pid": os.getpid(),
            "boot_id": processes.boot_id(),
            "started_at": iso(self.started_s),
            "at": iso(now_s),
            "state": health.state,
            "reasons": list(health.reasons),
            "runs": runs,
            "queue": self._counts if health.state != "stopped" else {},
            "launches": launches,
        }
        try:
            write_atomically(self.state.health, json.dumps(said, indent=1), durable=False)
        except OSError:
            pass  # a full disk is told by the log and by systemd's status


def make_launcher(settings: Settings) -> Launcher:
    return LocalLauncher(settings.launch.env)


def apply_order(store: Store, state: StateFolder, order: inbox.Order) -> int:
    """Carry out what a person asked of the queue. Returns how many jobs changed."""
    pause = state.root / "paused"
    if order.action == "pause":
        pause.touch()
        return 0
    if order.action == "resume":
        pause.unlink(missing_ok=True)
        return 0
    return queue.change(store, order.action, order.jobs, iso(time.time()))
