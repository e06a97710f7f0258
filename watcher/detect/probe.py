"""One run's way from observation to settled file: hints and scans in, complete files and rejections out.

Opens a checkpoint only to read its structure (evalcore.archive). Never touches the database.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from evalcore.archive import ArchiveError, Summary, summarise
from watcher.detect.events import FolderWatch
from watcher.detect.folder import folder_at
from watcher.detect.observation import Irregular, look, version_key
from watcher.detect.scan import ScanReport
from watcher.detect.settle import Candidate, Settler, same_file
from watcher.detect.writer import is_open_for_writing
from watcher.domain.checkpoint import Fingerprint, NamePattern, printable
from watcher.domain.ready_marker import ReadyMarker
from watcher.domain.step import Step, choose_step, step_from_name

DONE_MAX = 20_000  # versions handed on: late hints, and scans that were under way, are no news about them
SAVE_AGAIN = "copy it again from where it was saved; it is read again as soon as it changes"
UNSETTLED = "before it was complete and quiet"


@dataclass(frozen=True)
class SettledFile:
    """A settled, structurally complete version of a file or folder, and what its directory and pickle contain."""

    path: str
    fingerprint: Fingerprint
    summary: Summary
    step: Step
    name_step: Step


def settled_file(path: str, fingerprint: Fingerprint, summary: Summary) -> SettledFile:
    """The step of the payload, else of the name."""
    payload, name = Step(summary.step, summary.step_source or ""), step_from_name(path)
    return SettledFile(path, fingerprint, summary, choose_step(payload, name, summary.width), name)


@dataclass(frozen=True)
class Rejection:
    """A path that cannot be registered, why, and what to do. final: nothing more is expected of this version."""

    path: str
    kind: str
    reason: str
    final: bool
    fingerprint: Fingerprint | None = None
    hint: str = ""


@dataclass
class FolderProber:
    """The candidates of one run. `patient` is False in a single pass, where an incomplete file is not waited for."""

    root: str
    pattern: NamePattern
    watch: FolderWatch
    settler: Settler
    ready_marker: str | None = None
    patient: bool = True
    reading: Callable[[str, int, int], None] = lambda path, done, total: None  # of a file that has to be read whole
    last_report: ScanReport | None = None
    scans: int = 0
    _marker: ReadyMarker | None = field(default=None, init=False)
    _done: dict[int, tuple[int, int, int, int]] = field(default_factory=dict, init=False)  # version key -> same_file
    _folders: set[str] = field(default_factory=set, init=False)  # folders that were handed on

    def __post_init__(self) -> None:
        self._marker = ReadyMarker(self.ready_marker) if self.ready_marker else None

    def take_in(self, now_s: float) -> tuple[list[ScanReport], list[Rejection]]:
        """Empty the queues of the watch: scans first, then hints, each of which costs one stat."""
        reports: list[ScanReport] = []
        rejections: list[Rejection] = []
        for report in _drain(self.watch.reports):
            reports.append(report)
            rejections += self._take_in_scan(report, now_s)
        closed: dict[str, bool] = {}
        folders: dict[str, bool] = {}
        for hint in _drain(self.watch.hints):
            if hint.is_folder:
                folders[hint.path] = True
            else:
                closed[hint.path] = closed.get(hint.path, False) or hint.closed
            if hint.moved_from is not None:
                rejections += self._renamed(hint.moved_from, hint.path, is_folder=hint.is_folder)
                closed.setdefault(hint.moved_from, False)  # a new file may have that name already
        for path, was_closed in closed.items():
            folders |= {folder: folders.get(folder, False) for folder in _above(path)}
            if self.pattern.matches(path):
                rejections += self._look(path, now_s, was_closed)
            elif self._marker:
                self._look_sooner(self.settler.candidates.values(), now_s)
        for path, was_renamed in folders.items():
            if self.pattern.why_folder_ignored(path) is None:
                self._look_at_folder(path, now_s, was_renamed)
        return reports, rejections

    def _look_sooner(self, candidates: Iterable[Candidate], now_s: float) -> None:
        """What they waited for may be there now."""
        for candidate in candidates:
            candidate.due_s = min(candidate.due_s, max(now_s, candidate.changed_s + self.settler.settle_s))

    def _look_at_folder(self, path: str, now_s: float, was_renamed: bool) -> None:
        """Something in a folder changed that is a checkpoint if it is recognised. A renamed one is whole already."""
        try:
            observed = look(self.root, path, self.pattern)
        except OSError:
            return  # deleted meanwhile, or unreadable: the next scan decides
        if not isinstance(observed, Fingerprint):
            return
        candidate = self.settler.candidates.get(path)
        if candidate is not None or version_key(path, observed) not in self._done:
            self.settler.observe(path, observed, now_s, closed=was_renamed)
        if candidate is not None:
            self._look_sooner((candidate,), now_s)

    def settled(
        self, now_s: float, limit: int, go_on: Callable[[int, int], bool] = lambda done, total: True
    ) -> Iterator[SettledFile | Rejection]:
        """Candidates whose quiet time is over, looked at once more and probed; at most `limit` of them.

        go_on: called before each one with how many are done and due; False leaves the others for the next call.
        """
        due = list(self.settler.due(now_s))[:limit]
        for done, candidate in enumerate(due):
            if not go_on(done, len(due)):
                return
            if rejections := self._look(candidate.path, now_s, candidate.closed):
                yield from rejections
            elif candidate.due_s <= now_s and candidate.path in self.settler.candidates:
                yield from self._probe(candidate, now_s)

    def _take_in_scan(self, report: ScanReport, now_s: float) -> Iterator[Rejection]:
        self.last_report, self.scans = report, self.scans + 1
        for path, observed in report.observations:
            if isinstance(observed, Irregular):
                yield Rejection(path, "unsupported", observed.reason, final=True)
            elif version_key(path, observed) not in self._done:  # a scan may have begun before it was handed on
                self.settler.observe(path, observed, now_s)
        if report.more:
            return
        for candidate in self.settler.gone_before(report.at_s):
            known = self.settler.is_renamed(candidate) or self._is_done(candidate)
            self.settler.drop(candidate.path)
            if not known and report.error is None:  # a folder that cannot be read says nothing about its files
                yield _vanished(candidate)

    def _is_done(self, candidate: Candidate) -> bool:
        """Whether it was handed on under another name, or is a folder that was, and lost files since."""
        return candidate.path in self._folders or same_file(candidate.fingerprint) in self._done.values()

    def _renamed(self, path: str, new_path: str, *, is_folder: bool) -> Iterator[Rejection]:
        """Drop a renamed candidate: its new name is a candidate by itself, or is rejected where it is not watched."""
        candidate = self.settler.drop(path)
        watched = self.pattern.why_folder_ignored(new_path) is None if is_folder else self.pattern.matches(new_path)
        if candidate is not None and not watched:
            reason = f"it was renamed to {printable(new_path)}, which is not watched, {UNSETTLED}"
            yield Rejection(path, "vanished", reason, final=True, fingerprint=candidate.fingerprint)

    def _look(self, path: str, now_s: float, closed: bool) -> list[Rejection]:
        try:
            observed = look(self.root, path, self.pattern)
        except OSError as error:
            observed = Irregular(f"its stat fails: {error.strerror}")
        if isinstance(observed, Fingerprint):
            if path in self.settler.candidates or version_key(path, observed) not in self._done:
                self.settler.observe(path, observed, now_s, closed=closed)
            return []
        if isinstance(observed, Irregular):
            self.settler.drop(path)
            return [] if observed.alias else [Rejection(path, "unsupported", observed.reason, final=True)]
        candidate = self.settler.candidates.get(path)
        if candidate is not None and candidate.gone_since_s is None:
            self.settler.suspend(candidate, now_s)  # deleted, or renamed without an event
            self.watch.scan_soon()
        return []

    def _probe(self, candidate: Candidate, now_s: float) -> Iterator[SettledFile | Rejection]:
        path = candidate.path
        if (missing := self._missing_marker(candidate)) is not None:
            yield from self._wait(candidate, now_s, "incomplete", missing)
            return
        try:
            summary = summarise(os.path.join(self.root, path), report=partial(self.reading, path))
        except FileNotFoundError:
            yield from self._look(path, now_s, closed=False)
            return
        except ArchiveError as error:
            yield from self._not_an_archive(candidate, now_s, error)
            return
        except OSError as error:
            reason = f"cannot be read: {errno.errorcode.get(error.errno or 0, '')} {error.strerror}"
            yield from self._wait(candidate, now_s, "unreadable", reason, otherwise="unsupported")
            return
        except Exception as error:  # an unforeseen error rejects this file only
            if not candidate.probes:
                logging.getLogger(__name__).exception("reading the structure of %s failed", printable(path))
            reason = f"reading its structure failed unexpectedly: {type(error).__name__}: {printable(str(error)[:300])}"
            yield from self._wait(candidate, now_s, "unreadable", reason, otherwise="unsupported")
            return
        if self._is_still_written(candidate, now_s):
            yield from self._wait(candidate, now_s, "incomplete", "a process still has it open for writing, or mapped")
            return
        if look(self.root, path, self.pattern) != candidate.fingerprint:
            self._look(path, now_s, closed=False)  # it changed while it was read: its timer starts again
            return
        self.settler.drop(path)
        self._hand_on(path, candidate.fingerprint)
        yield settled_file(path, candidate.fingerprint, summary)

    def _is_still_written(self, candidate: Candidate, now_s: float) -> bool:
        """A complete file is not waited for beyond the time that an incomplete one gets: a handle may be leaked."""
        if self._marker is not None or not self.patient or self.settler.given_up(candidate, now_s):
            return False
        path = os.path.join(self.root, candidate.path)
        try:
            seen = folder_at(path) if os.path.isdir(path) else None
            files = [path] if seen is None else [os.path.join(path, name) for name in seen.kind.weights]
            return any(is_open_for_writing(file) is True for file in files)
        except OSError:
            return False  # gone or unreadable now: the next stat decides

    def _hand_on(self, path: str, fingerprint: Fingerprint) -> None:
        if os.path.isdir(os.path.join(self.root, path)):
            self._folders.add(path)
        self._done[version_key(path, fingerprint)] = same_file(fingerprint)
        if len(self._done) > DONE_MAX:
            del self._done[next(iter(self._done))]

    def _not_an_archive(self, candidate: Candidate, now_s: float, error: ArchiveError) -> Iterator[Rejection]:
        hint = error.hint or (SAVE_AGAIN if error.kind == "corrupt" else "")
        if not error.incomplete:
            self.settler.drop(candidate.path)
            yield Rejection(candidate.path, error.kind, error.reason, True, candidate.fingerprint, hint)
        elif not self.patient or self.settler.given_up(candidate, now_s):
            self.settler.drop(candidate.path)
            reason = f"{error.reason}; its writer added nothing more"
            yield Rejection(candidate.path, "corrupt", reason, True, candidate.fingerprint, hint)
        else:
            yield from self._wait(candidate, now_s, "incomplete", error.reason)

    def _wait(
        self, candidate: Candidate, now_s: float, kind: str, reason: str, otherwise: str | None = None
    ) -> Iterator[Rejection]:
        """Probe again later, and say so once. In a single pass it is given up: finally as `otherwise`, where given."""
        news = not candidate.probes or candidate.reason != reason
        if self.patient:
            self.settler.wait(candidate, now_s, reason)
        else:
            self.settler.drop(candidate.path)
        if otherwise is not None and not self.patient:
            yield Rejection(candidate.path, otherwise, reason, True, candidate.fingerprint)
        elif news or not self.patient:
            yield Rejection(candidate.path, kind, reason, False, candidate.fingerprint)

    def _missing_marker(self, candidate: Candidate) -> str | None:
        """Why the ready marker does not say yet that this version is complete; None where it does, or none is asked."""
        if self._marker is None:
            return None
        folder, name = os.path.split(candidate.path)
        marker = self._marker.file_for(name, step_from_name(candidate.path).value)
        if marker is None:
            return f"its name has no step, which the ready marker {self._marker.pattern} needs"
        try:
            status = os.stat(os.path.join(self.root, folder, marker))
        except OSError:
            return f"waits for its ready marker {printable(marker)}"
        if status.st_mtime_ns < candidate.fingerprint.mtime_ns:
            return f"its ready marker {printable(marker)} is older than the file"
        return None


def _vanished(candidate: Candidate) -> Rejection:
    reason = f"it was gone {UNSETTLED}" + (f": {candidate.reason}" if candidate.reason else "")
    return Rejection(candidate.path, "vanished", reason, final=True, fingerprint=candidate.fingerprint)


def _above(path: str) -> Iterator[str]:
    """The folders that the path is in, below the watched one."""
    while path := path.rpartition("/")[0]:
        yield path


def _drain(source: queue.SimpleQueue) -> Iterator:
    while True:
        try:
            yield source.get_nowait()
        except queue.Empty:
            return
