"""One full scan of a watched folder: every entry is looked at once, and the versions not reported before come out.

Never opens a checkpoint, never waits, and knows nothing of events or threads.
"""

from __future__ import annotations

import heapq
import os
import queue
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from evalcore.archive import holds_state_alone
from watcher.detect.folder import folder_in, is_link_to_checkpoint
from watcher.detect.observation import A_FOLDER, Irregular, observation_of, version_key
from watcher.domain.checkpoint import (
    NOT_INCLUDED,
    WITHOUT_WEIGHTS,
    Fingerprint,
    NamePattern,
    looks_like_a_checkpoint,
    stored,
)

RACY_NS = 2_000_000_000  # a listing this fresh may lack a file of the same time
EMIT_MAX = 2_000  # new observations of one scan; the rest follow in the next, which then comes at once
Count = Callable[[int], None]


@dataclass
class ScanReport:
    """One full scan: what was new or changed, what was ignored and why, and how it went.

    lost: registered versions that are no longer there as they were.
    """

    at_s: float
    seconds: float = 0.0
    observations: list[tuple[str, Fingerprint | Irregular]] = field(default_factory=list)
    matching: int = 0
    lost: int = 0
    more: bool = False
    device: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    error: str | None = None


@dataclass
class _Pass:
    """One scan under way. known: keys that need no second look; seen: keys of what is there; new: everything else."""

    known: set[int]
    report_progress: Count
    ignored: Counter[str]
    entries: int = 0
    folders: list[str] = field(default_factory=lambda: [""])
    # eight bytes a file: a second set of 100,000 would cost megabytes and time
    seen: array[int] = field(default_factory=lambda: array("q"))
    new: list[tuple[str, Fingerprint | Irregular]] = field(default_factory=list)


class FolderScan:
    """Scans one folder again and again; remembers the keys of the versions that were reported or registered."""

    def __init__(self, root: str, pattern: NamePattern, known: Iterable[int] = ()) -> None:
        """known: keys of registered versions, which need no second look."""
        self.root = root
        self.pattern = pattern
        self._known: set[int] = set(known)
        self._unregistered: set[int] = set()  # those of `_known` that were reported and not registered (yet)
        self._registered: queue.SimpleQueue[int] = queue.SimpleQueue()  # from another thread, since the last scan
        self._plain: dict[str, tuple[tuple[int, int], Counter[str]]] = {}  # folder -> (inode, mtime_ns), what it holds

    def remember(self, path: str, observed: Fingerprint | Irregular) -> None:
        """This version is registered: scans need not report it, and its disappearance counts as lost."""
        self._registered.put(version_key(path, observed))

    def scan(self, report_progress: Count = lambda entries: None) -> ScanReport:
        """Look at every entry of the folder once; report the versions that are not known yet, newest first.

        report_progress: gets the number of entries looked at, every 64 entries.
        """
        report = ScanReport(time.monotonic())
        began_cpu_s = time.thread_time()
        self._take_registered()
        known = self._known
        current = _Pass(known, report_progress, report.ignored)
        try:
            report.device = os.stat(self.root).st_dev
            while current.folders:
                self._visit(current.folders.pop(), current)
            gone = len(known) - (len(current.seen) - len(current.new))
            if gone:
                seen = set(current.seen)
                report.lost = sum(key not in seen and key not in self._unregistered for key in known)
                known &= seen
                self._unregistered &= seen
        except (OSError, ValueError) as error:  # what could not be looked at is not lost
            report.error = f"{self.root}: {getattr(error, 'strerror', None) or error}"
        report.matching = len(current.seen)
        new = current.new
        report.more = len(new) > EMIT_MAX
        if report.more:
            new = heapq.nlargest(EMIT_MAX, new, key=lambda item: item[1][3] if isinstance(item[1], Fingerprint) else 0)
        report.observations = new
        keys = [version_key(path, observed) for path, observed in new]
        known.update(keys)
        self._unregistered.update(keys)
        report.seconds = time.thread_time() - began_cpu_s
        return report

    def _take_registered(self) -> None:
        while True:
            try:
                key = self._registered.get_nowait()
            except queue.Empty:
                return
            self._known.add(key)
            self._unregistered.discard(key)

    def _visit(self, folder: str, current: _Pass) -> None:
        """Look at the entries of one folder. Raises OSError where it is the watched folder itself."""
        try:
            fd = os.open(os.path.join(self.root, folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if not folder:
                raise
            current.ignored[f"folder not readable: {error.strerror}"] += 1
            return
        try:
            with os.scandir(fd) as entries:  # by descriptor: their stats need no walk along the folder's path
                if not folder:
                    self._sift(entries, "", current)
                elif not self._is_checkpoint(folder, fd, listed := list(entries), current):
                    self._pass_by(folder, fd, listed, current)
        finally:
            os.close(fd)

    def _pass_by(self, folder: str, fd: int, entries: list[os.DirEntry[str]], current: _Pass) -> None:
        """A folder that is no checkpoint: its files are candidates where globs reach them, else they are counted."""
        without_weights = holds_state_alone(folder.rpartition("/")[2], [entry.name for entry in entries])
        if self.pattern.recursive:
            current.ignored.update([WITHOUT_WEIGHTS] * without_weights)
            self._sift(entries, f"{folder}/", current)
            return
        if looks_like_a_checkpoint(folder) and self.pattern.included(folder):
            self._sort_in(folder, A_FOLDER, current)
            return
        names = [] if without_weights else [entry.name for entry in entries]
        endings = map(looks_like_a_checkpoint, names)
        counts = Counter(f"{ending} file in subfolders, {NOT_INCLUDED}" for ending in endings if ending)
        counts.update([WITHOUT_WEIGHTS] * without_weights)
        current.ignored.update(counts)
        status = os.fstat(fd)
        if time.time_ns() - status.st_mtime_ns > RACY_NS:
            self._plain[folder] = (status.st_ino, status.st_mtime_ns), counts

    def _is_checkpoint(self, folder: str, fd: int, entries: list[os.DirEntry[str]], current: _Pass) -> bool:
        """Whether the folder is recognised as one, which is then sorted in."""
        try:
            seen = folder_in(fd, folder.rpartition("/")[2], [entry.name for entry in entries])
        except OSError:
            return True  # its files come or go right now: the next scan decides
        if seen is None:
            return False
        if self.pattern.prefers_file(folder, seen.kind.main):
            return False
        key = version_key(folder, seen.fingerprint)
        if (why := self.pattern.why_folder_ignored(folder)) is not None:
            current.ignored[f"{seen.kind.label} folder, {why}" if why == NOT_INCLUDED else why] += 1
        else:
            current.seen.append(key)
            if key not in current.known:
                current.new.append((folder, seen.fingerprint))
        return True

    def _enter(self, path: str, entry: os.DirEntry[str], current: _Pass) -> None:
        """Queue a folder for a visit, unless it was visited before, was no checkpoint, and has the same entries."""
        if self.pattern.recursive:
            current.folders.append(path)
        elif not entry.name.startswith("."):
            stamp, counts = self._plain.get(path, (None, Counter()))
            try:
                status = entry.stat(follow_symlinks=False) if stamp else None
            except OSError:
                return
            if status is not None and (status.st_ino, status.st_mtime_ns) == stamp:
                current.ignored.update(counts)
            else:
                current.folders.append(path)

    def _sift(self, entries: Iterable[os.DirEntry[str]], prefix: str, current: _Pass) -> None:
        included = self.pattern.included
        known, seen = current.known, current.seen
        count = current.entries
        for entry in entries:
            count += 1
            if not count & 63:
                current.report_progress(count)
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                self._enter(path, entry, current)
                continue
            if entry.is_symlink() and is_link_to_checkpoint(entry, os.path.join(self.root, path)):
                self._sort_in_link(path, entry, current)
                continue
            if not included(path):
                if (ending := looks_like_a_checkpoint(entry.name)) is not None:
                    current.ignored[self.pattern.why_ignored(path) or f"{ending} file, {NOT_INCLUDED}"] += 1
                continue
            # Nearly every file of nearly every scan ends here, so this is all that is done for it: one stat, and
            # whether the key of that, made as `version_key` makes it, is known.
            try:
                s = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone between listing and stat
            except OSError as error:
                self._sort_in(path, Irregular(f"its stat fails: {error.strerror}"), current)
                continue
            name = path if path.isascii() else stored(path)
            key = hash((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
            if key in known:
                seen.append(key)
            else:
                self._sort_in(path, self._observe(path, s), current)
        current.entries = count

    def _sort_in_link(self, path: str, entry: os.DirEntry[str], current: _Pass) -> None:
        """A link to a folder that is a checkpoint: never evaluated itself, and never passed over in silence."""
        if (why := self.pattern.why_folder_ignored(path)) is not None:
            current.ignored[f"link to a folder, {why}" if why == NOT_INCLUDED else why] += 1
            return
        try:
            self._sort_in(path, self._observe(path, entry.stat(follow_symlinks=False)), current)
        except FileNotFoundError:
            pass  # gone between listing and stat

    def _observe(self, path: str, status: os.stat_result) -> Fingerprint | Irregular:
        try:
            return observation_of(self.root, path, status, self.pattern)
        except OSError as error:
            return Irregular(f"its stat fails: {error.strerror}")

    def _sort_in(self, path: str, observed: Fingerprint | Irregular, current: _Pass) -> None:
        """Sort in what is not a regular file of a known stat: nearly always news."""
        key = version_key(path, observed)
        if key in current.known:  # so it was not to be ignored
            current.seen.append(key)
        elif why := self.pattern.why_ignored(path):
            current.ignored[why] += 1
        elif isinstance(observed, Irregular) and observed.alias:
            current.ignored[observed.reason] += 1
        else:
            current.seen.append(key)
            current.new.append((path, observed))
