"""One run's way from observation to settled file: hints and scans in, complete files and verdicts out.

Opens a checkpoint only to read its structure (evalcore.archive). Never touches the database.
"""

from __future__ import annotations

import errno
import os
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from evalcore.archive import ArchiveError, Summary, summarise
from watcher.detect.scan import FolderWatch, Irregular, ScanReport, look, version_key
from watcher.detect.settle import Candidate, Settler
from watcher.domain.checkpoint import Fingerprint, NamePattern, Step, choose_step, step_from_name

DONE_MAX = 20_000  # of these, late hints and scans that were under way are told apart from news


@dataclass(frozen=True)
class SettledFile:
    """A settled, structurally complete version of a file, and what its directory and pickle tell."""

    path: str
    fingerprint: Fingerprint
    summary: Summary
    step: Step
    name_step: Step


def found_of(path: str, fingerprint: Fingerprint, summary: Summary) -> SettledFile:
    """Put together what the payload and the name tell of the step."""
    payload, name = Step(summary.step, summary.step_source or ""), step_from_name(path)
    return SettledFile(path, fingerprint, summary, choose_step(payload, name), name)


@dataclass(frozen=True)
class Rejection:
    """A path that cannot be registered, and why. final: nothing more is expected of this version."""

    path: str
    kind: str
    reason: str
    final: bool
    fingerprint: Fingerprint | None = None


@dataclass
class FolderProber:
    """The candidates of one run. `patient` is False in a single pass, where an incomplete file gets its verdict."""

    root: str
    pattern: NamePattern
    watch: FolderWatch
    settler: Settler
    ready_marker: str | None = None
    patient: bool = True
    reading: Callable[[str, int, int], None] = lambda path, done, total: None  # of a file that has to be read whole
    last_report: ScanReport | None = None
    scans: int = 0
    _done: dict[int, None] = field(default_factory=dict)  # marks of versions handed on, the newest last

    def take_in(self, now_s: float) -> tuple[list[ScanReport], list[Rejection]]:
        """Empty the queues of the watch: scans first, then hints, each of which costs one stat."""
        reports, verdicts = [], []
        for report in _drain(self.watch.reports):
            reports.append(report)
            self.last_report, self.scans = report, self.scans + 1
            for path, found in report.observations:
                if isinstance(found, Irregular):
                    verdicts.append(Rejection(path, "unsupported", found.reason, final=True))
                elif version_key(path, found) not in self._done:  # a scan may have begun before it was handed on
                    self.settler.observe(path, found, now_s)
        closed: dict[str, bool] = {}
        for hint in _drain(self.watch.hints):
            closed[hint.path] = closed.get(hint.path, False) or hint.closed
        for path, was_closed in closed.items():
            if self.pattern.matches(path):
                verdicts += self._look(path, now_s, was_closed)
            elif self.ready_marker:
                for candidate in self.settler.candidates.values():
                    candidate.due_s = min(candidate.due_s, max(now_s, candidate.changed_s + self.settler.settle_s))
        return reports, verdicts

    def settled(self, now_s: float, limit: int) -> Iterator[SettledFile | Rejection]:
        """Candidates whose quiet time is over, looked at once more and probed; at most `limit` of them."""
        for candidate in list(self.settler.due(now_s))[:limit]:
            if verdicts := self._look(candidate.path, now_s, candidate.closed):
                yield from verdicts
            elif candidate.due_s <= now_s and candidate.path in self.settler.candidates:
                yield from self._probe(candidate, now_s)

    def _look(self, path: str, now_s: float, closed: bool) -> list[Rejection]:
        try:
            found = look(self.root, path)
        except OSError as error:
            found = Irregular(f"cannot be looked at: {error.strerror}")
        if isinstance(found, Fingerprint):
            if path in self.settler.candidates or version_key(path, found) not in self._done:
                self.settler.observe(path, found, now_s, closed=closed)
            return []
        candidate = self.settler.drop(path)
        if isinstance(found, Irregular):
            return [] if found.alias else [Rejection(path, "unsupported", found.reason, final=True)]
        if candidate is None or not os.path.isdir(self.root):
            return []  # never seen, or the whole folder is away: the scan will tell
        reason = "it was gone before it was complete and quiet" + (f": {candidate.reason}" if candidate.reason else "")
        return [Rejection(path, "vanished", reason, final=True, fingerprint=candidate.fingerprint)]

    def _probe(self, candidate: Candidate, now_s: float) -> Iterator[SettledFile | Rejection]:
        path = candidate.path
        name_step = step_from_name(path)
        if self.ready_marker and not self._marked(candidate, name_step):
            self.settler.wait(candidate, now_s, f"waits for its marker {self.ready_marker}")
            return
        try:
            summary = summarise(os.path.join(self.root, path), report=partial(self.reading, path))
        except FileNotFoundError:
            yield from self._look(path, now_s, closed=False)
            return
        except ArchiveError as error:
            yield from self._not_now(candidate, now_s, error)
            return
        except OSError as error:
            yield self._unreadable(candidate, now_s, error)
            return
        if look(self.root, path) != candidate.fingerprint:
            self._look(path, now_s, closed=False)  # it changed while it was read: its timer starts again
            return
        self.settler.drop(path)
        self._hand_on(path, candidate.fingerprint)
        yield found_of(path, candidate.fingerprint, summary)

    def _hand_on(self, path: str, fingerprint: Fingerprint) -> None:
        self._done[version_key(path, fingerprint)] = None
        if len(self._done) > DONE_MAX:
            del self._done[next(iter(self._done))]

    def _not_now(self, candidate: Candidate, now_s: float, error: ArchiveError) -> Iterator[Rejection]:
        if not error.incomplete:
            self.settler.drop(candidate.path)
            yield Rejection(candidate.path, error.kind, error.reason, True, candidate.fingerprint)
        elif not self.patient or self.settler.given_up(candidate, now_s):
            self.settler.drop(candidate.path)
            reason = f"{error.reason}; its writer added nothing more"
            yield Rejection(candidate.path, "corrupt", reason, True, candidate.fingerprint)
        else:
            first = not candidate.probes
            self.settler.wait(candidate, now_s, error.reason)
            if first:
                yield Rejection(candidate.path, "incomplete", error.reason, False, candidate.fingerprint)

    def _unreadable(self, candidate: Candidate, now_s: float, error: OSError) -> Rejection:
        reason = f"cannot be read: {errno.errorcode.get(error.errno or 0, '')} {error.strerror}"
        if self.patient:
            self.settler.wait(candidate, now_s, reason)
            return Rejection(candidate.path, "unreadable", reason, False, candidate.fingerprint)
        self.settler.drop(candidate.path)
        return Rejection(candidate.path, "unsupported", reason, True, candidate.fingerprint)

    def _marked(self, candidate: Candidate, step: Step) -> bool:
        """Is the ready marker there, and not older than the file that it speaks of?"""
        assert self.ready_marker is not None
        folder, name = os.path.split(candidate.path)
        marker = self.ready_marker.format(
            name=name, stem=name.rsplit(".", 1)[0], step=step.value if step.value is not None else -1
        )
        try:
            status = os.stat(os.path.join(self.root, folder, marker))
        except OSError:
            return False
        return status.st_mtime_ns >= candidate.fingerprint.mtime_ns


def _drain(source: queue.SimpleQueue) -> Iterator:
    while True:
        try:
            yield source.get_nowait()
        except queue.Empty:
            return
