"""From the watched folder to the queue, for one run: gather, register, enqueue, pin (steps 1 to 4 of the way).

Wires detect/ to store/. What could not be written because the database was away is kept and tried again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evalcore.archive import Summary
from evalcore.progress import Progress
from watcher.detect.events import FolderWatch
from watcher.detect.observation import version_key
from watcher.detect.probe import FolderProber, Rejection, SettledFile
from watcher.detect.scan import ScanReport
from watcher.detect.settle import Settler
from watcher.detect.spool import NotPinned, Spool, should_pin
from watcher.domain.checkpoint import NamePattern, stored
from watcher.domain.order import wanted
from watcher.domain.timestamps import iso
from watcher.failpoints import failpoint
from watcher.log import Log
from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import checkpoints, queue
from watcher.store.write.checkpoints import EvalSetRow, NewCheckpoint, Registered

PROBES_PER_TICK = 200
PROBING_MAX_S = 2.0  # of one tick: slow files must not hold up the launches and the other runs


@dataclass
class Intake:
    """One watched run. `tick` does one round and never sleeps."""

    run: RunSettings
    store: Store
    spool: Spool
    log: Log
    wake: threading.Event
    sets: list[EvalSetRow] = field(default_factory=list)
    patient: bool = True
    tell: Callable[[Progress], None] = lambda work: None  # of work on one file that holds up the round
    registered: int = 0
    last_new_s: float = 0.0
    started_s: float = 0.0
    dir_missing: str | None = None
    overflows_seen: int = 0
    _verdicts: deque[Rejection] = field(default_factory=deque)
    _found: deque[SettledFile] = field(default_factory=deque)
    home_device: int | None = None  # st_dev of the file system that the checkpoints lie on
    _backlog: set[str] | None = None  # files of the first scan that `backfill` leaves aside; None: decided
    _backlog_whole: bool = False
    _rotates: bool = False
    _busy_with: tuple[str, str, float] = ("", "", 0.0)  # phase, path, since when

    def start(self) -> None:
        """Install the watch, then begin to scan; what the database knows already is not reported again."""
        root = os.fspath(self.run.dir)
        is_new = checkpoints.adopt_run(self.store, self.run.name, root, iso(time.time()))
        self._backlog = set() if is_new and self.run.backfill != "all" else None
        self._rotates = checkpoints.rotates(self.store, self.run.name)
        self.registered = checkpoints.count_checkpoints(self.store, self.run.name)
        known = {version_key(path, found) for path, found in checkpoints.known_versions(self.store, self.run.name)}
        self.home_device = checkpoints.home_device(self.store, self.run.name)
        self._judged = checkpoints.judged(self.store, self.run.name)
        pattern = NamePattern(self.run.include, self.run.exclude)
        self.watch = FolderWatch(root, pattern, self.run.scan_s, self.wake)
        settler = Settler(self.run.settle_s, self.run.incomplete_timeout_s)
        marker, busy = self.run.ready_marker, partial(self._busy, "hashing")
        self.prober = FolderProber(root, pattern, self.watch, settler, marker, self.patient, busy)
        self.last_new_s = self.started_s = time.monotonic()
        self.watch.start(known)
        if self.watch.polling_because:
            reason = self.watch.polling_because
            self.log.event("polling", run=self.run.name, reason=reason, scan_s=self.run.scan_s)

    def stop(self) -> None:
        self.watch.stop()

    def tick(self, now_s: float) -> None:
        """Take in what was seen, probe what is quiet, and write what that tells. Raises StoreUnavailable."""
        reports, verdicts = self.prober.take_in(now_s)
        self._verdicts.extend(verdicts)
        self._note_backlog(reports)
        for item in self.prober.settled(now_s, PROBES_PER_TICK, self._probing(time.monotonic())):
            if isinstance(item, Rejection):
                self._verdicts.append(item)
            else:
                self._found.append(item)
        while self._verdicts:
            self._judge(self._verdicts[0])
            self._verdicts.popleft()
        self._register()
        for report in reports:
            self._after_scan(report)
        self._close_backlog()
        if self.watch.overflows != self.overflows_seen:
            self.overflows_seen = self.watch.overflows
            self.log.event("overflow", run=self.run.name)

    def _probing(self, began_s: float) -> Callable[[int, int], bool]:
        """Between two probes: report the progress, which keeps the watchdog quiet, and stop when the time is over."""
        since = time.time()

        def go_on(done: int, total: int) -> bool:
            self.tell(Progress("probing", done, total, "files", self.run.name, since=since, at=time.time()))
            return done == 0 or time.monotonic() - began_s < PROBING_MAX_S

        return go_on

    def idle(self) -> bool:
        """Has a whole scan been taken in, with nothing left to settle or to write?"""
        report = self.prober.last_report
        scanned = report is not None and (not report.more or report.error is not None)
        if self._backlog is not None and (report is None or report.error is None):
            return False
        return scanned and not self.prober.settler.candidates and not self._found and not self._verdicts

    def away(self) -> str | None:
        """Why a file that is not there says nothing now: the whole folder is gone, or another file system covers it."""
        try:
            device = os.stat(self.run.dir).st_dev
        except OSError as error:
            return f"{self.run.dir}: {error.strerror}"
        report = self.prober.last_report
        if report is not None and report.device == device and report.matching:
            return None
        if self.home_device is not None and device != self.home_device:
            return f"{self.run.dir}: unmounted, or another file system is mounted over it"
        return None

    def next_due_s(self) -> float | None:
        return self.prober.settler.next_due_s()

    def _after_scan(self, report: ScanReport) -> None:
        missing = report.error or (self.away() if self.registered else None)
        if missing and missing != self.dir_missing:
            self.log.event("scan_failed", run=self.run.name, reason=missing)
        elif self.dir_missing and not missing:
            self.log.event("healed", reason=f"{self.run.dir} is there again")
        self.dir_missing = missing
        if missing:
            return
        if report.matching:
            self.home_device = report.device
        self._forget_gone(report)
        new = len(report.observations)
        self.log.event("scan", run=self.run.name, matching=report.matching, new=new, seconds=report.seconds)
        checkpoints.scanned(self.store, self.run.name, iso(time.time()), report.ignored)
        if report.lost and self.registered and not self._rotates:
            self._rotates = True
            checkpoints.mark_rotating(self.store, self.run.name)

    def _note_backlog(self, reports: list[ScanReport]) -> None:
        """What the first whole scan finds lay there before the first start; what comes later is new."""
        for report in reports:
            if self._backlog is not None and not self._backlog_whole and report.error is None:
                self._backlog.update(path for path, _ in report.observations)
                self._backlog_whole = not report.more

    def _close_backlog(self) -> None:
        """Once all of it has settled, `latest` has the newest evaluated after all."""
        if self._backlog is None or not self._backlog_whole:
            return
        if self._backlog.isdisjoint(self.prober.settler.candidates):
            if self.run.backfill == "latest":
                queue.revive_newest(self.store, self.run.name, iso(time.time()))
            self._backlog = None

    def _forget_gone(self, report: ScanReport) -> None:
        """A verdict on a name (a FIFO, a link, a file that was never readable) goes when the name is gone."""
        if report.more:
            return
        for path in checkpoints.judged_by_name(self.store, self.run.name):
            if "\\udc" in path or path in self.prober.settler.candidates:
                continue  # the name itself is not UTF-8: it cannot be looked at from what is stored
            if not os.path.lexists(os.path.join(self.run.dir, path)):
                checkpoints.unjudge(self.store, self.run.name, path)
                self._judged = {pair for pair in self._judged if pair[0] != path}

    def _judge(self, verdict: Rejection) -> None:
        path = stored(verdict.path)
        if (path, verdict.reason) in self._judged:
            return
        now = iso(time.time())
        checkpoints.judge(
            self.store, self.run.name, path, verdict.kind, verdict.reason, verdict.final, verdict.fingerprint, now
        )
        self._judged.add((path, verdict.reason))
        name = "irregular" if verdict.final else "incomplete"
        self.log.event(name, run=self.run.name, path=verdict.path, kind=verdict.kind, reason=verdict.reason)

    def _register(self) -> None:
        if not self._found:
            return
        batch = list(self._found)
        new = [self._checkpoint(found) for found in batch]
        done = checkpoints.register(self.store, self.run.name, new, self.sets, iso(time.time()))
        failpoint("after_register")
        self._found.clear()
        for found, checkpoint, registered in zip(batch, new, done, strict=True):
            self.watch.remember(found.path, found.fingerprint)
            if self._backlog is not None:
                self._backlog.discard(found.path)  # written again, it is new
            self._judged = {pair for pair in self._judged if pair[0] != checkpoint.path} if self._judged else set()
            self._tell(found, checkpoint, registered)
            self._pin(found, registered)
            if registered.new:
                self.registered += 1
                self.last_new_s = time.monotonic()
            if registered.overwrote and not self._rotates:
                self._rotates = True
                checkpoints.mark_rotating(self.store, self.run.name)

    def _checkpoint(self, found: SettledFile) -> NewCheckpoint:
        skipped = None
        if self._backlog is not None and found.path in self._backlog:
            skipped = f"run.backfill = {self.run.backfill!r}: it was there before the first start"
        elif not wanted(found.step.value, self.run.every):
            skipped = f"run.every = {self.run.every}"
        return as_checkpoint(found, found.path, skipped)

    def _tell(self, found: SettledFile, checkpoint: NewCheckpoint, registered: Registered) -> None:
        if checkpoint.skipped and registered.new:
            self.log.event("skipped", run=self.run.name, path=found.path, reason=checkpoint.skipped)
        elif registered.copied and not registered.enqueued:
            self.log.event("copied", run=self.run.name, path=found.path)
        elif not registered.new and not registered.enqueued:
            self.log.event("known", run=self.run.name, path=found.path)
        else:
            size = f"{found.fingerprint.size_bytes / 1e6:.1f} MB"
            family = found.summary.family or "unknown model"
            facts = {"step": found.step.value, "step_source": found.step.source or "no step", "size": size}
            self.log.event("settled", run=self.run.name, path=found.path, family=family, **facts)

    def _busy(self, phase: str, path: str, done: int, total: int) -> None:
        now_s = time.time()
        if self._busy_with[:2] != (phase, path):
            self._busy_with = (phase, path, now_s)
        self.tell(Progress(phase, done, total, "bytes", stored(path), since=self._busy_with[2], at=now_s))

    def _pin(self, found: SettledFile, registered: Registered) -> None:
        kept = self.registered
        if not registered.queued or not should_pin(
            self.run.pin, rotates=self._rotates, overwritten=registered.overwrote, kept=kept
        ):
            return
        failpoint("before_pin")
        source = os.path.join(self.run.dir, found.path)
        busy = partial(self._busy, "copying", found.path)
        try:
            copy = self.spool.pin(source, found.summary.digest, found.fingerprint.size_bytes, busy)
        except NotPinned as error:
            self.log.event("not_pinned", run=self.run.name, path=found.path, reason=str(error))
        else:
            checkpoints.keep_pinned(self.store, registered.id, os.fspath(copy))
            self.log.event("pinned", run=self.run.name, path=found.path)


def as_checkpoint(found: SettledFile, path: str, skipped: str | None) -> NewCheckpoint:
    """What is registered of a found file. path: relative to the run's folder. skipped: why it is not evaluated."""
    summary: Summary = found.summary
    shown = stored(path)
    notes = [summary.note] if summary.note else []
    name_step = found.name_step.value if found.name_step.source == "name" else None
    if summary.step is not None and name_step is not None and name_step != summary.step:
        notes.append(f"the file says step {summary.step}, its name {name_step}")
    return NewCheckpoint(
        path=shown,
        raw_path=os.fsencode(path) if shown != path else None,
        digest=summary.digest,
        format=summary.format,
        fingerprint=found.fingerprint,
        family=summary.family,
        parameters=summary.parameters,
        step=found.step.value,
        step_source=found.step.source,
        payload_step=summary.step,
        name_step=found.name_step.value,
        tokens_seen=summary.tokens_seen,
        logged_val_loss=summary.logged_val_loss,
        config=json.dumps(summary.config, default=str)[: 1 << 16] if summary.config else None,
        note="; ".join(notes) or None,
        skipped=skipped,
    )
