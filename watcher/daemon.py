"""The daemon: boot (lock, migrate, rescue, watch), tick (one round of everything, without sleeping), run, signals.

Wires the parts and passes facts down to them; the rules are in domain/, the work is in pipeline/.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from watcher.detect.spool import Spool
from watcher.domain.health import Facts, Pause, Paused
from watcher.domain.timestamps import seconds
from watcher.errors import CkptwatchError, StoreUnavailable
from watcher.failpoints import failpoint
from watcher.launch import processes
from watcher.log import Log
from watcher.pipeline import facts, watching
from watcher.pipeline.completion import Completion
from watcher.pipeline.data_watch import DataWatch
from watcher.pipeline.delivery import WORKER
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.orders import apply_inbox
from watcher.pipeline.ownership import OwnedDatabase, own_database
from watcher.pipeline.pins import release_pins
from watcher.pipeline.recovery import rescue, rescue_lapsed
from watcher.pipeline.reloading import Reloading
from watcher.pipeline.status import StatusPublisher
from watcher.pipeline.stopping import end_launches
from watcher.pipeline.stored_names import with_stored_names
from watcher.pipeline.stride import StrideEnd
from watcher.pipeline.watching import Tools, Watching
from watcher.settings.schema import Settings
from watcher.sinks.delivery_process import DeliveryProcesses
from watcher.state.folder import StateFolder
from watcher.state.sd_notify import Notifier
from watcher.state.signals import Signals
from watcher.store.engine import shown_url
from watcher.store.write import pins, queue
from watcher.store.write.launches import LEASE_S

ACTIVE_POLL_S = 0.2  # while a launch runs: outcome files do not wake the loop
IDLE_POLL_S = 5.0


@dataclass
class Daemon:
    """One daemon over one database. `boot` makes one; `run` ends it. once: a single pass."""

    tools: Tools
    owned: OwnedDatabase
    signals: Signals
    notifier: Notifier
    publisher: StatusPublisher
    dispatch: Dispatch
    watching: Watching
    completion: Completion
    reloading: Reloading
    stride_end: StrideEnd
    reload_settings: Callable[[], Settings] | None = None
    stop_serving: Callable[[], None] | None = None  # the dashboard, where there is one
    paused: Paused | None = None
    database_trouble: str | None = None
    data_watch: DataWatch = field(default_factory=DataWatch)
    _rescue_due_s: float = 0.0

    @classmethod
    def boot(
        cls,
        settings: Settings,
        url: str,
        state: StateFolder,
        log: Log,
        *,
        once: bool = False,
        reload_settings: Callable[[], Settings] | None = None,
    ) -> Daemon:
        """Lock, migrate, end or adopt what an earlier daemon left, begin to watch.

        Raises LockHeld, ConfigError, EnvironmentProblem; nothing stays locked or running then.
        """
        signals, notifier = Signals(), Notifier()
        signals.install()
        with ExitStack() as undo:
            owned = own_database(url, state)
            undo.callback(owned.close)
            settings = with_stored_names(owned.store, settings, log)
            failpoint("after_migration_commit")
            processes.become_subreaper()
            publisher = StatusPublisher(owned.store, state, log, notifier)

            def report(work: Any) -> None:
                """A large file is hashed or copied: no tick happens meanwhile."""
                signals.exit_if_stopped()
                publisher.busy(work)
                notifier.ping()

            isolation = Isolation(log)
            deliveries = DeliveryProcesses(state.sinks, WORKER)
            undo.callback(deliveries.stop)
            wake = signals.wake.set
            tools = Tools(owned.store, state, log, isolation, wake, deliveries, report, patient=not once)
            _, _, launching = watching.resolve_launches(settings, tools)
            dispatch = Dispatch(owned.store, state, launching, processes.owner(), log, isolation)
            rescue(owned.store, state, dispatch)
            failpoint("after_rescue")
            sweep = partial(Spool(state.spool, settings.store.spool_max_bytes).sweep, pins.pinned_paths(owned.store))
            isolation.run("sweeping the spool", time.monotonic(), sweep)
            watched = watching.begin(settings, tools, time.time())
            undo.callback(watched.stop)
            dispatch.use(watched.dispatch)
            if watched.delivery is not None:
                watched.delivery.apply_leftovers(time.time())
            log.event("daemon_started", dirs=", ".join(str(run.dir) for run in settings.run), database=shown_url(url))
            stop_serving = _serve(settings, url, state, log) if settings.web.enabled and not once else None
            undo.pop_all()
        parts = (tools, owned, signals, notifier, publisher, dispatch, watched)
        after = (Completion(owned.store, once), Reloading(tools), StrideEnd(owned.store, log))
        return cls(*parts, *after, reload_settings, stop_serving)

    # -- one round -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Everything once, without sleeping. While the database is unavailable it does nothing else but retry."""
        tools, isolate = self.tools, self.tools.isolation.run
        if self.owned.keep_locks():
            tools.log.event("state_folder_lost", folder=str(tools.state.root))
        try:
            for intake in self.watching.intakes:
                isolate(f"run {intake.run.name}", now_s, partial(intake.tick, now_s))
                self.notifier.ping()
            isolate("orders", now_s, partial(apply_inbox, tools.store, tools.state, tools.log, tools.isolation, now_s))
            if (fresh := self.reloading.attempt(now_s)) is not None:
                self._swap(fresh)
            self.paused = self._why_paused(now_s)
            isolate("launches", now_s, partial(self.dispatch.tick, now_s, self.paused))
            isolate("rescue of other daemons' jobs", now_s, partial(self._rescue_for_others, now_s))
            watched = self.watching
            isolate("means", now_s, partial(watched.averaging.tick, watched.intakes, time.time()))
            if not self.dispatch.live:
                spool = (tools.state.spool, watched.settings.store.spool_max_bytes)
                isolate("spool", now_s, partial(release_pins, tools.store, *spool))
            isolate("newest of `every`", now_s, partial(self.stride_end.tick, watched.settings.run, now_s, time.time()))
            if watched.delivery is not None:
                isolate("delivery", now_s, partial(watched.delivery.tick, now_s, time.time()))
            if self.database_trouble:
                tools.log.event("healed", reason="the database can be used again")
                self.database_trouble = None
        except StoreUnavailable as error:
            if self.database_trouble != error.cause:
                self.database_trouble = error.cause
                tools.log.event("paused", reason=error.cause)
        isolate("status file", now_s, partial(self._publish, now_s))
        self.notifier.ping()

    def _publish(self, now_s: float) -> None:
        intakes = self.watching.intakes
        works = [work for intake in intakes if (work := facts.work_of(intake)) is not None]
        urgent = self.database_trouble is not None
        self.publisher.publish(now_s, partial(self._facts, now_s), works, self._status_parts, urgent=urgent)

    def _facts(self, now_s: float) -> Facts:
        return facts.health_facts(
            self.watching.intakes,
            self.dispatch,
            self.tools.state,
            now_s,
            paused=self.paused,
            database=self.database_trouble,
            faults=self.tools.isolation.faults(now_s),
            reload_waits=self.reloading.waits,
        )

    def _status_parts(self) -> dict[str, Any]:
        runs = [facts.run_status(intake) for intake in self.watching.intakes]
        return {"runs": runs, "launches": facts.launch_status(self.dispatch)}

    def _why_paused(self, now_s: float) -> Paused | None:
        if self.tools.state.paused.exists():
            return Paused(Pause.BY_USER)
        paused = self.data_watch.check(self.watching.specs, now_s)
        if paused is not None and self.data_watch.quiet(now_s) and not self.reloading.pending:
            self.tools.log.event("data_changed", files=", ".join(paused.paths))
            self.data_watch.hashed_again()
            self.reloading.request(self.watching.settings, now_s)
        return paused

    def _rescue_for_others(self, now_s: float) -> None:
        """On a server: queue again what daemons whose lease lapsed have left."""
        if self.tools.store.shared and now_s >= self._rescue_due_s:
            self._rescue_due_s = now_s + LEASE_S / 6
            rescue_lapsed(self.tools.store, self.tools.state, self.dispatch)

    def _swap(self, fresh: Watching) -> None:
        """New settings take effect here, all at once."""
        stale, self.watching = self.watching, fresh
        self.dispatch.use(fresh.dispatch)
        stale.stop()
        self.tools.log.event("settings_reloaded")

    def run(self, finished: Callable[[Daemon], bool] = lambda daemon: False) -> None:
        """Tick until a signal or `finished` ends it; then stop in good order."""
        try:
            while not self.signals.stops:
                self.tick(time.monotonic())
                if all(intake.prober.scans for intake in self.watching.intakes):
                    self.notifier.ready()
                if self.signals.reload and self.reload_settings is not None:
                    self.signals.reload = False
                    self.notifier.reloading()
                    self.reloading.read(self.reload_settings, time.monotonic())
                    self.notifier.ready()
                    continue
                try:
                    if finished(self):
                        break
                    pause_s = self._pause_s(time.monotonic())
                except StoreUnavailable:
                    pause_s = 1.0  # the next tick meets it too, and logs it
                except Exception as error:  # rows that a user edited, say
                    if self.completion.once or isinstance(error, CkptwatchError):
                        raise
                    self.tools.isolation.note("looking for due jobs", error, time.monotonic())
                    pause_s = IDLE_POLL_S
                self.signals.wake.wait(pause_s)
                self.signals.wake.clear()  # before `stops` is asked again: no call is lost
        finally:
            self.stop()

    def idle_s(self) -> float:
        """Seconds since the newest checkpoint was registered (or the start)."""
        return time.monotonic() - max((intake.last_new_s for intake in self.watching.intakes), default=0.0)

    def scan_soon(self) -> None:
        for intake in self.watching.intakes:
            intake.watch.scan_soon()

    def scanned_since(self, at_s: float) -> bool:
        reports = [intake.prober.last_report for intake in self.watching.intakes]
        return all(report is not None and report.at_s >= at_s for report in reports)

    def settled_down(self) -> bool:
        """Nothing left to settle, to evaluate, to retry or to deliver. Raises where a single pass would never end."""
        if self.database_trouble or self.reloading.pending:
            return False
        watched = self.watching
        return self.completion.reached(watched.intakes, self.dispatch, watched.delivery, self.paused)

    def stop(self) -> None:
        """No new claims; launches are asked, then made to end; their jobs go back to the queue uncharged."""
        self.notifier.stopping()
        self.watching.stop()
        self.tools.deliveries.stop()
        if self.stop_serving is not None:
            self.stop_serving()
        end_launches(self.dispatch, self.signals, self.tools.isolation)
        self.publisher.stopped()
        self.owned.close()
        self.tools.log.event("daemon_stopped", reason="signal" if self.signals.stops else "done")

    def _pause_s(self, now_s: float) -> float:
        if self.dispatch.live:
            return ACTIVE_POLL_S
        intakes = self.watching.intakes
        if self.database_trouble or any(intake.watch.scanning_since_s is not None for intake in intakes):
            return 1.0
        pause_s = min(self.notifier.watchdog_s or IDLE_POLL_S, IDLE_POLL_S)
        dues = [due for intake in intakes if (due := intake.next_due_s()) is not None]
        if dues:
            pause_s = min(pause_s, max(min(dues) - now_s, 0.02))
        waiting = queue.next_due(self.tools.store, list(self.dispatch.settings.runs))
        if waiting is not None and self.paused is None:
            pause_s = min(pause_s, max(seconds(waiting) - time.time(), 0.02) if waiting else 0.5)
        return pause_s


def _serve(settings: Settings, url: str, state: StateFolder, log: Log) -> Callable[[], None] | None:
    from watcher.pipeline.dashboard import open_dashboard  # loads the web libraries

    return open_dashboard(settings.web, url, state, log, settings.model)
