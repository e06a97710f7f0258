"""The wiring: boot (lock, migrate, rescue), tick (one round of everything, without sleeping), run (tick and wait).

Decides nothing itself: rules stand in jobs.py, policy.py, health.py, settle.py.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalcore.messages import EvalSetSpec
from evalcore.progress import Progress
from watcher.detect.spool import Spool
from watcher.domain.health import Health
from watcher.domain.timestamps import iso, seconds
from watcher.errors import CkptwatchError, EnvironmentProblem, StoreUnavailable
from watcher.failpoints import failpoint
from watcher.launch import processes
from watcher.launch.local import LocalLauncher
from watcher.launch.protocol import Launcher
from watcher.launch.slurm import SlurmLauncher
from watcher.log import Log
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.intake import Intake
from watcher.pipeline.recovery import rescue, rescue_lapsed
from watcher.settings.eval_sets import (
    changed_files,
    data_stamp,
    launch_spec,
    missing_files,
    resolve_model,
    resolve_sets,
)
from watcher.settings.schema import Settings
from watcher.state import commands
from watcher.state.folder import StateFolder
from watcher.state.lock import Lock
from watcher.state.sd_notify import Notifier
from watcher.state.status_file import StatusFile
from watcher.store.engine import Store, shown_url, sqlite_path
from watcher.store.migrate import open_for_writing
from watcher.store.write import checkpoints, queue
from watcher.store.write.leases import LEASE_S

if TYPE_CHECKING:
    from watcher.pipeline.delivery import Delivery

ACTIVE_POLL_S = 0.2  # while a launch runs: outcome files do not wake us
IDLE_POLL_S = 5.0
STOP_GRACE_S = 10.0
DATA_SETTLE_S = 2.0  # validation data that changes is hashed again once it has been as it is for so long
DELIVERY_GRACE_S = 30.0  # of a single pass, after the last evaluation


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
    interrupted: bool = False  # by Ctrl-C
    store_trouble: str | None = None
    dispatch: Dispatch = None  # type: ignore[assignment]  # made by boot
    delivery: Delivery | None = None
    stop_serving: Callable[[], None] | None = None
    _reload: bool = False
    _quiet_since_s: float | None = None
    _rescue_due_s: float = 0.0
    _changed_data: tuple[list[str], float] | None = None  # stamps of data that is not as it was hashed, and since when
    status_file: StatusFile = field(default_factory=StatusFile)

    # -- boot ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Take the lock, bring the database up to date, end or adopt what an earlier daemon left, begin to watch."""
        self._obey_signals()
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
        failpoint("after_migration_commit")
        processes.become_subreaper()
        self.launcher: Launcher = make_launcher(self.settings)
        self.spool = Spool(self.state.spool, self.settings.store.spool_max_bytes)
        self.started_s = time.time()
        self._configure()
        rescue(self.store, self.state, self.dispatch)
        failpoint("after_rescue")
        self.spool.sweep(checkpoints.pinned_paths(self.store))
        for intake in self.intakes:
            intake.start()
        dirs = ", ".join(str(run.dir) for run in self.settings.run)
        self.log.event("daemon_started", dirs=dirs, database=shown_url(self.url))
        self._serve()

    def _configure(self) -> None:
        """Everything that follows from the settings: sets and their digests, model, launches, runs."""
        s = self.settings
        self.specs: list[EvalSetSpec] = resolve_sets(s.eval, self.state.root / "data_digests.json", self._hashing)
        model = resolve_model(s.model)
        spec = launch_spec(s.launch, self.specs, model, self.state.token_cache)
        runs = {run.name: run for run in s.run}
        if self.dispatch is None:
            self.dispatch = Dispatch(
                self.store, self.state, self.launcher, s.launch, runs, spec, processes.owner(), self.log
            )
        self.dispatch.reconfigure(s.launch, runs, spec)
        self.dispatch.away = self._away
        self.dispatch.keep_launches = s.store.keep_launches
        now = iso(time.time())
        wanted = [(spec, spec.digest(model)) for spec in self.specs]
        self.intakes = []
        for run in s.run:
            intake = Intake(run, self.store, self.spool, self.log, self.wake, [], not self.once, self._hashing)
            intake.sets = checkpoints.adopt_eval_sets(self.store, run.name, wanted, now)
            self.intakes.append(intake)
        if self.delivery is not None:
            self.delivery.stop()
        self.delivery = None
        if s.sink or s.alert:
            from watcher.pipeline.delivery import Delivery

            self.delivery = Delivery(self.store, self.state, self.log, s.sink, s.alert, list(runs))
            self.delivery.boot(time.time())

    def _hashing(self, work: Progress) -> None:
        """A large file is read for its digest, or copied, and no round of the loop is made meanwhile."""
        if self.stop_signals:
            raise SystemExit(130 if self.interrupted else 0)
        self.status_file.tell_of(self, work)
        self.notifier.ping()

    def _serve(self) -> None:
        """The dashboard in a thread of this process, where `[web]` asks for it."""
        if self.settings.web.enabled and not self.once:
            from watcher.web.start import open_dashboard

            self.stop_serving = open_dashboard(self.settings.web, self.url, self.state, self.log)

    # -- one round -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Everything once, without sleeping. A database that is away pauses it; the next tick tries again."""
        try:
            for intake in self.intakes:
                intake.tick(now_s)
            self._obey_inbox()
            self.dispatch.paused = self._why_paused(now_s)
            self.dispatch.tick(now_s)
            self._rescue_for_others(now_s)
            self._release_pins()
            if self.delivery is not None:
                self.delivery.tick(now_s, time.time())
            if self.store_trouble:
                self.log.event("healed", reason="the database can be used again")
                self.store_trouble = None
        except StoreUnavailable as error:
            if self.store_trouble != error.cause:
                self.store_trouble = error.cause
                self.log.event("paused", reason=error.cause)
        self.status_file.tell(self, now_s)
        self.notifier.ping()

    def _why_paused(self, now_s: float) -> str | None:
        if (self.state.root / "paused").exists():
            return "by a person"
        missing = [path for spec in self.specs for path in missing_files(spec)]
        if missing:
            return f"validation data cannot be read: {', '.join(missing)}"
        return self._data_changes(now_s)

    def _data_changes(self, now_s: float) -> str | None:
        """Why nothing is claimed while data is not as it was hashed. Once it is quiet, its sets are defined anew."""
        changed = [path for spec in self.specs for path in changed_files(spec)]
        if not changed:
            self._changed_data = None
            return None
        stamps = list(map(data_stamp, changed))
        if self._changed_data is None or self._changed_data[0] != stamps:
            self._changed_data = (stamps, now_s)
        elif now_s - self._changed_data[1] >= DATA_SETTLE_S:
            self._changed_data = None
            self.log.event("data_changed", files=", ".join(dict.fromkeys(changed)))
            self._use(self.settings)
        return f"validation data changes: {', '.join(dict.fromkeys(changed))}"

    def _away(self, run: str) -> str | None:
        for intake in self.intakes:
            if intake.run.name == run:
                return intake.dir_missing or (intake.away() if intake.registered else None)
        return None

    def _obey_inbox(self) -> None:
        for path, order in commands.take(self.state.inbox):
            apply_order(self.store, self.state, order)
            path.unlink(missing_ok=True)
            self.log.event("queue_changed", action=order.action, jobs=len(order.jobs))

    def _rescue_for_others(self, now_s: float) -> None:
        """On a server: what daemons that fell silent have left goes back to the queue."""
        if self.store.shared and now_s >= self._rescue_due_s:
            self._rescue_due_s = now_s + LEASE_S / 6
            rescue_lapsed(self.store, self.state, self.dispatch)

    def _release_pins(self) -> None:
        if self.dispatch.live or not any(self.state.spool.iterdir()):
            return
        for checkpoint_id, path in checkpoints.unneeded_pins(self.store):
            if not Path(path).is_relative_to(self.state.spool):
                continue  # another host's
            checkpoints.keep_pinned(self.store, checkpoint_id, None)
            self.spool.release(Path(path))

    # -- run -------------------------------------------------------------------------------------------------------

    def run(self, finished: Callable[[Daemon], bool] = lambda daemon: False) -> None:
        """Tick until a signal or `finished` says stop; then end in good order."""
        try:
            while not self.stop_signals:
                self.wake.clear()
                self.tick(time.monotonic())
                if self.intakes_scanned():
                    self.notifier.ready()
                if self._reload:
                    self._reload_now()
                try:
                    if finished(self):
                        break
                    pause_s = self._pause_s(time.monotonic())
                except StoreUnavailable:
                    pause_s = 1.0  # the next tick meets it too, and says so
                self.wake.wait(pause_s)
        finally:
            self.stop()

    def intakes_scanned(self) -> bool:
        return all(intake.prober.scans for intake in self.intakes)

    def idle_s(self) -> float:
        """Seconds since the newest checkpoint was registered (or the start)."""
        return time.monotonic() - max((intake.last_new_s for intake in self.intakes), default=0.0)

    def scan_soon(self) -> None:
        for intake in self.intakes:
            intake.watch.scan_soon()

    def scanned_since(self, at_s: float) -> bool:
        return all((report := i.prober.last_report) is not None and report.at_s >= at_s for i in self.intakes)

    def settled_down(self) -> bool:
        """Nothing left to settle, to evaluate or to retry."""
        if self.store_trouble or self.dispatch.live or not all(intake.idle() for intake in self.intakes):
            return False
        runs = [run.name for run in self.settings.run]
        if queue.next_due(self.store, runs) is None:
            strided = [run.name for run in self.settings.run if run.every > 1]
            if any(queue.revive_newest(self.store, name, iso(time.time())) for name in strided):
                return False
            return self.delivery is None or self._delivered()
        if self.once and self.dispatch.launch_failures >= 3:
            raise EnvironmentProblem(
                f"torchrun cannot be started: {self.dispatch.launch_failure.splitlines()[-1]}",
                tried=f"{self.dispatch.launch_failures} launches; their logs are in {self.state.launches}",
                hint="ckptwatch doctor",
            )
        if self.once and (away := next((i.dir_missing for i in self.intakes if i.dir_missing), None)):
            raise EnvironmentProblem(f"the folder went away: {away}", hint="run again once it is back")
        if self.once and self.dispatch.paused and not self._changed_data:
            raise EnvironmentProblem(f"the queue is paused: {self.dispatch.paused}", hint="ckptwatch queue resume")
        return False

    def _delivered(self) -> bool:
        """Have the sinks got what there is? A single pass waits for them, within reason."""
        assert self.delivery is not None
        now_s = time.monotonic()
        self._quiet_since_s = self._quiet_since_s or now_s
        return self.delivery.idle(time.time()) or now_s - self._quiet_since_s > DELIVERY_GRACE_S

    def stop(self) -> None:
        """No new claims; launches are asked, then made to end; their jobs go back to the queue uncharged."""
        self.notifier.stopping()
        for intake in self.intakes:
            intake.stop()
        if self.delivery is not None:
            self.delivery.stop()
        if self.stop_serving is not None:
            self.stop_serving()
        self.dispatch.paused = "stopping"
        deadline_s = time.monotonic() + STOP_GRACE_S
        at_once = self.stop_signals > 1
        if self.launcher.survives_daemon and not at_once:
            self.dispatch.live.clear()  # the cluster's jobs go on; the next start takes them up again
        self.dispatch.stop_all(at_once=at_once)
        while self.dispatch.live and time.monotonic() < deadline_s + 3:
            if (self.stop_signals > 1 or time.monotonic() > deadline_s) and not at_once:
                at_once = True
                self.dispatch.stop_all(at_once=True)
            try:
                self.dispatch.tick(time.monotonic())
            except (StoreUnavailable, OSError):
                pass  # the next start finds the outcome files
            self.wake.clear()
            self.wake.wait(0.05)
        self.status_file.write(self, Health("stopped", ()))
        self.store.close()
        for lock in self.locks:
            lock.release()
        self.log.event("daemon_stopped", reason="signal" if self.stop_signals else "done")

    def _pause_s(self, now_s: float) -> float:
        if self.dispatch.live:
            return ACTIVE_POLL_S
        if self.store_trouble or any(intake.watch.scanning_since_s is not None for intake in self.intakes):
            return 1.0
        pause_s = self.notifier.watchdog_s or IDLE_POLL_S
        dues = [due for intake in self.intakes if (due := intake.next_due_s()) is not None]
        if dues:
            pause_s = min(pause_s, max(min(dues) - now_s, 0.02))
        waiting = queue.next_due(self.store, list(self.dispatch.runs))
        if waiting is not None and not self.dispatch.paused:
            wait_s = max(seconds(waiting) - time.time(), 0.02) if waiting else 0.5
            pause_s = min(pause_s, wait_s)
        return min(pause_s, IDLE_POLL_S)

    def _obey_signals(self) -> None:
        def stop(number: int, _frame: object) -> None:
            self.stop_signals += 1
            self.interrupted = self.interrupted or number == signal.SIGINT
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
        except CkptwatchError as error:
            self.log.event("settings_refused", reason=error.cause)
        else:
            if self._use(settings):
                self.log.event("settings_reloaded", file="the configuration file")
        self.notifier.ready()

    def _use(self, settings: Settings) -> bool:
        """Begin anew with these settings and the data as it is now; False where something is wrong with them."""
        try:
            resolve_sets(settings.eval, self.state.root / "data_digests.json", self._hashing)
            resolve_model(settings.model)
        except CkptwatchError as error:
            self.log.event("settings_refused", reason=error.cause)
            return False
        for intake in self.intakes:
            intake.stop()
        self.settings = settings
        self._configure()
        for intake in self.intakes:
            intake.start()
        return True


def make_launcher(settings: Settings) -> Launcher:
    if settings.launch.executor == "slurm":
        return SlurmLauncher(settings.launch.slurm, settings.launch.env)
    return LocalLauncher(settings.launch.env)


def apply_order(store: Store, state: StateFolder, order: commands.Order) -> int:
    """Carry out what a person asked of the queue. Returns how many jobs changed."""
    pause = state.root / "paused"
    if order.action == "pause":
        pause.touch()
        return 0
    if order.action == "resume":
        pause.unlink(missing_ok=True)
        return 0
    return queue.change(store, order.action, order.jobs, iso(time.time()))
