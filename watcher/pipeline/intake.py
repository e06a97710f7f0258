"""From the watched folder to the queue, for one run: probe, register, enqueue, pin.

Wires detect/ to store/. What could not be written is kept and tried again; an unusable file costs itself only.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial

from evalcore.messages import EvalSetSpec, ModelSpec
from evalcore.progress import Progress
from watcher.detect.events import FolderWatch
from watcher.detect.observation import version_key
from watcher.detect.probe import FolderProber, Rejection, SettledFile
from watcher.detect.scan import ScanReport
from watcher.detect.settle import Settler
from watcher.detect.spool import Spool
from watcher.domain.checkpoint import NOT_INCLUDED, NamePattern, stored
from watcher.domain.order import wanted
from watcher.domain.passed_by import is_reported, passed_by
from watcher.domain.timestamps import iso
from watcher.errors import CkptwatchError
from watcher.failpoints import failpoint
from watcher.log import Log
from watcher.pipeline import run_folder
from watcher.pipeline.backlog import Backlog
from watcher.pipeline.gone_names import names_that_are_gone
from watcher.pipeline.isolation import first_line
from watcher.pipeline.pinning import Pinning
from watcher.pipeline.registration import Observation, SidecarWatch, as_checkpoint, settings_digest
from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import checkpoints, eval_sets, rejections, requests, runs
from watcher.store.write.checkpoints import NewCheckpoint, Registered
from watcher.store.write.eval_sets import EvalSetRow

PROBES_PER_TICK = 200
PROBING_MAX_S = 2.0  # of one tick: slow files must not hold up the launches and the other runs


@dataclass
class Intake:
    """One watched run, made by `begin`. `tick` does one round and never sleeps."""

    run: RunSettings
    store: Store
    log: Log
    model: ModelSpec
    sets: list[EvalSetRow]
    report: Callable[[Progress], None]
    watch: FolderWatch
    prober: FolderProber
    backlog: Backlog
    observation: Observation
    sidecars: SidecarWatch
    rejected: dict[str, tuple[str, str, bool]]  # path -> (kind, reason, final): the same again is not news
    rotates: bool
    registered: int
    last_device: int | None  # st_dev of the file system that the checkpoints lie on
    started_s: float
    last_new_s: float
    spool: InitVar[Spool]
    dir_missing: str | None = None
    overflows_seen: int = 0
    _rejections: deque[Rejection] = field(default_factory=deque)
    _settled: deque[SettledFile] = field(default_factory=deque)
    _work: tuple[str, str, float, int] = ("", "", 0.0, 0)  # phase, path, since when, done
    _passed_by: tuple[str, ...] = ()  # what was logged of files and folders that `include` does not take

    def __post_init__(self, spool: Spool) -> None:
        self.pinning = Pinning(self.run, self.store, spool, self.log, self.show_work)

    @classmethod
    def begin(
        cls,
        run: RunSettings,
        store: Store,
        spool: Spool,
        log: Log,
        wake: Callable[[], None],
        model: ModelSpec,
        digests: Sequence[tuple[EvalSetSpec, str]],
        *,
        patient: bool = True,
        report: Callable[[Progress], None] = lambda work: None,
    ) -> Intake:
        """Adopt the run and its sets, install the watch, begin to scan. Raises ConfigError, StoreUnavailable.

        digests: the eval sets, each with its digest. report: gets progress of work on one file that holds up a round.
        """
        name, root, now_s = run.name, os.fspath(run.dir), time.time()
        is_new = run_folder.adopt(store, name, root, iso(now_s))
        sets = eval_sets.adopt_eval_sets(store, name, digests, iso(now_s))
        pattern = NamePattern(run.include, run.exclude)
        watch = FolderWatch(root, pattern, run.scan_s, wake)
        prober = FolderProber(
            *(root, pattern, watch, Settler(run.settle_s, run.incomplete_timeout_s), run.ready_marker, patient)
        )
        intake = cls(
            *(run, store, log, model, sets, report, watch, prober),
            backlog=Backlog(decided=not is_new or run.backfill == "all"),
            observation=Observation(int(now_s * 1e9), runs.last_look_at(store, name)),
            sidecars=SidecarWatch.of(root),
            rejected=rejections.rejected(store, name),
            rotates=runs.rotates(store, name),
            registered=checkpoints.count_checkpoints(store, name),
            last_device=checkpoints.newest_device(store, name),
            started_s=time.monotonic(),
            last_new_s=time.monotonic(),
            spool=spool,
        )
        prober.reading = partial(intake.show_work, "hashing")
        known = checkpoints.known_versions(store, name, settings_digest(model))
        watch.start({version_key(path, fingerprint) for path, fingerprint in known})
        if watch.polling_because:
            log.event("polling", run=name, reason=watch.polling_because, scan_s=run.scan_s)
        return intake

    def stop(self) -> None:
        self.watch.stop()

    def tick(self, now_s: float) -> None:
        """Take in scans and events, probe files whose quiet time is over, register them. Raises StoreUnavailable."""
        reports, new_rejections = self.prober.take_in(now_s)
        self._rejections.extend(new_rejections)
        self.backlog.note(reports)
        for item in self.prober.settled(now_s, PROBES_PER_TICK, self._probing(time.monotonic())):
            if isinstance(item, Rejection):
                self._rejections.append(item)
            else:
                self._settled.append(item)
        while self._rejections:
            self._reject(self._rejections[0])
            self._rejections.popleft()
        self._register()
        for report in reports:
            self._after_scan(report, now_s)
        if self.backlog.close(self.prober.settler.candidates) and self.run.backfill == "latest":
            requests.revive_newest(self.store, self.run.name)
        if self.watch.overflows != self.overflows_seen:
            self.overflows_seen = self.watch.overflows
            self.log.event("overflow", run=self.run.name)

    def _probing(self, began_s: float) -> Callable[[int, int], bool]:
        """Between two probes: report the progress, which keeps the watchdog quiet, and stop when the time is over."""
        since = time.time()

        def go_on(done: int, total: int) -> bool:
            self.report(Progress("probing", done, total, "files", self.run.name, since=since, at=time.time()))
            return done == 0 or time.monotonic() - began_s < PROBING_MAX_S

        return go_on

    def idle(self) -> bool:
        """Has a whole scan been taken in, with nothing left to settle or to write?"""
        report = self.prober.last_report
        scanned = report is not None and (not report.more or report.error is not None)
        if not self.backlog.decided and (report is None or report.error is None):
            return False
        return scanned and not self.prober.settler.candidates and not self._settled and not self._rejections

    def away(self) -> str | None:
        """Why a missing file means nothing now: the whole folder is gone, or another file system covers it."""
        try:
            device = os.stat(self.run.dir).st_dev
        except OSError as error:
            return f"{self.run.dir}: {error.strerror}"
        report = self.prober.last_report
        if report is not None and report.device == device and report.matching:
            return None
        if self.last_device is not None and device != self.last_device:
            return f"{self.run.dir}: unmounted, or another file system is mounted over it"
        return None

    def next_due_s(self) -> float | None:
        return self.prober.settler.next_due_s()

    def show_work(self, phase: str, path: str, done: int, total: int) -> None:
        now_s = time.time()
        *same, since_s, before = self._work
        if same != [phase, path] or done <= before:  # a path that is saved over and over is new work each time
            since_s = now_s
        self._work = (phase, path, since_s, done)
        self.report(Progress(phase, done, total, "bytes", stored(path), since=since_s, at=now_s))

    def _after_scan(self, report: ScanReport, now_s: float) -> None:
        missing = report.error or (self.away() if self.registered else None)
        if missing and missing != self.dir_missing:
            self.log.event("scan_failed" if self.run.dir.is_dir() else "no_folder", run=self.run.name, reason=missing)
        elif self.dir_missing and not missing:
            self.log.event("healed", reason=f"{self.run.dir} was found")
        self.dir_missing = missing
        if missing:
            return
        if report.matching:
            self.last_device = report.device
        if not report.more:
            gone = names_that_are_gone(self.store, self.run, self.prober.settler.candidates)
            self.rejected = {path: news for path, news in self.rejected.items() if path not in gone}
        for path, fingerprint in self.sidecars.changed():
            self.prober.settler.observe(path, fingerprint, now_s)
        new = len(report.observations)
        self.log.event("scan", run=self.run.name, matching=report.matching, new=new, seconds=report.seconds)
        self._log_passed_by(report)
        runs.scanned(self.store, self.run.name, iso(time.time()), report.ignored)
        if report.lost and self.registered:
            self._mark_rotating()

    def _log_passed_by(self, report: ScanReport) -> None:
        """Say once what is there and is not watched, and again when there is another kind of it."""
        sentences = passed_by(report.ignored)
        kinds = tuple(sorted(filter(is_reported, report.ignored)))
        if sentences and kinds != self._passed_by:
            hint = "  (--include GLOB, or `include` in [[run]])" if any(NOT_INCLUDED in kind for kind in kinds) else ""
            self.log.event("passed_by", run=self.run.name, words="; ".join(sentences) + hint)
        self._passed_by = kinds

    def _mark_rotating(self) -> None:
        if not self.rotates:
            self.rotates = True
            runs.mark_rotating(self.store, self.run.name)

    def _reject(self, rejection: Rejection) -> None:
        path = stored(rejection.path)
        news = (rejection.kind, rejection.reason, rejection.final)
        if self.rejected.get(path) == news:
            return
        now = iso(time.time())
        rejections.reject(self.store, self.run.name, path, *news, rejection.fingerprint, now, rejection.hint)
        self.rejected[path] = news
        name = "irregular" if rejection.final else "incomplete"
        reason = f"{rejection.reason}; next: {rejection.hint}" if rejection.hint else rejection.reason
        self.log.event(name, run=self.run.name, path=rejection.path, kind=rejection.kind, reason=reason)

    def _register(self) -> None:
        """All settled files in one transaction; where that fails for a reason of one file, one by one."""
        if not self._settled:
            return
        batch = sorted(self._settled, key=lambda item: item.fingerprint.mtime_ns)
        try:
            done = self._register_batch(batch)
        except CkptwatchError:
            raise
        except Exception:
            done = [pair for item in batch for pair in self._register_alone(item)]
        failpoint("after_register")
        self._settled.clear()
        for item, checkpoint, registered in done:
            self.watch.remember(item.path, item.fingerprint)
            self.sidecars.remember(item.path, item.fingerprint, item.summary)
            self.backlog.discard(item.path)
            self.rejected.pop(checkpoint.path, None)
            self._log_registered(item, checkpoint, registered)
            self.pinning.pin(item, registered, rotates=self.rotates, kept=self.registered)
            if registered.new:
                self.registered += 1
                self.last_new_s = time.monotonic()
            if registered.overwrote:
                self._mark_rotating()

    def _register_batch(self, batch: Sequence[SettledFile]) -> list[tuple[SettledFile, NewCheckpoint, Registered]]:
        new = [self._checkpoint(item) for item in batch]
        done = checkpoints.register(self.store, self.run.name, new, self.sets, iso(time.time()))
        return list(zip(batch, new, done, strict=True))

    def _register_alone(self, item: SettledFile) -> list[tuple[SettledFile, NewCheckpoint, Registered]]:
        try:
            return self._register_batch([item])
        except CkptwatchError:
            raise
        except Exception as error:
            reason = f"it cannot be registered: {first_line(error)}"
            self._rejections.append(Rejection(item.path, "unsupported", reason, True, item.fingerprint))
            return []

    def _checkpoint(self, item: SettledFile) -> NewCheckpoint:
        skipped = None
        if self.backlog.holds(item.path):
            skipped = f"run.backfill = {self.run.backfill!r}: it was there before the first start"
        elif not wanted(item.step.value, self.run.every):
            skipped = f"run.every = {self.run.every}"
        return as_checkpoint(item, item.path, skipped, self.model, self.observation.time_of(item.fingerprint))

    def _log_registered(self, item: SettledFile, checkpoint: NewCheckpoint, registered: Registered) -> None:
        if checkpoint.skipped and registered.new:
            self.log.event("skipped", run=self.run.name, path=item.path, reason=checkpoint.skipped)
        elif not registered.new and not registered.enqueued:
            self.log.event("known", run=self.run.name, path=item.path)
        else:
            size, family = f"{item.fingerprint.size_bytes / 1e6:.1f} MB", item.summary.family or "unknown model"
            facts = {"step": item.step.value, "step_source": item.step.source or "no step", "size": size}
            self.log.event("settled", run=self.run.name, path=item.path, family=family, **facts)
