"""Looking at one watched folder: one stat makes an observation; events are hints, the periodic scan is the truth.

Owns the watchdog observer and the scan thread of one run. Never opens a checkpoint; never decides that one is ready.
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
import queue
import stat
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from watchdog.events import (
    DirCreatedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from watcher.domain.checkpoint import HUGGING_FACE, HUGGING_FACE_FILES, Fingerprint, NamePattern, stored

SCAN_SHARE = 0.0018  # of a core: the pause between scans is stretched until scanning costs no more
EMIT_MAX = 2_000  # new observations of one scan; the rest follow in the next, which then comes at once
HINTS_MAX = 20_000
_INT64 = (1 << 63) - 1


@dataclass(frozen=True)
class Irregular:
    """A matching name that is no regular file of its own. alias: it only leads to another watched file."""

    reason: str
    alias: bool = False


@dataclass(frozen=True)
class Hint:
    """Somebody should look at this path. closed: its writer closed or renamed it."""

    path: str
    closed: bool


@dataclass
class ScanReport:
    """One full scan: what was new or changed, what was left aside and why, and how it went."""

    at_s: float
    seconds: float
    observations: list[tuple[str, Fingerprint | Irregular]]
    matching: int
    lost: int
    more: bool
    device: int
    ignored: Counter[str] = field(default_factory=Counter)
    error: str | None = None


def look(root: str, path: str) -> Fingerprint | Irregular | None:
    """One stat of `path` below `root`; None where there is nothing. Raises OSError for anything but absence."""
    full = os.path.join(root, path)
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            return _look_through(root, full)
    except FileNotFoundError:
        return None
    return fingerprint(status) if stat.S_ISREG(status.st_mode) else Irregular(_not_regular(status.st_mode))


def is_hugging_face(folder: str, name: str, *, in_folder: bool) -> bool:
    """Is this entry such a checkpoint's weights (counted once where they are sharded), or a folder that holds them?

    in_folder: also look one level into folders that are named as the trainer of transformers names them.
    """
    if name in HUGGING_FACE_FILES:
        return True
    if not in_folder or not name.startswith("checkpoint-"):
        return False
    return any(os.path.exists(os.path.join(folder, name, file)) for file in HUGGING_FACE_FILES)


def fingerprint(status: os.stat_result) -> Fingerprint:
    """The five numbers, folded into what a database can keep (some file systems use all 64 bits)."""
    if status.st_ino <= _INT64 and status.st_dev <= _INT64 and abs(status.st_mtime_ns) <= _INT64:
        return Fingerprint(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, min(status.st_ctime_ns, _INT64)
        )
    return Fingerprint(
        status.st_dev & _INT64,
        status.st_ino & _INT64,
        status.st_size,
        max(-_INT64, min(status.st_mtime_ns, _INT64)),
        max(-_INT64, min(status.st_ctime_ns, _INT64)),
    )


def version_key(path: str, found: Fingerprint | Irregular) -> int:
    """A number that stands for this version of this path; 100,000 of them are a few megabytes."""
    return hash((stored(path), *found[1:]) if isinstance(found, Fingerprint) else (stored(path), found.reason))


@dataclass
class _Round:
    """One scan under way. known: marks that need no second look; seen: marks of what is there; new: the rest of it."""

    known: set[int]
    tell: Callable[[int], None]
    looked: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=lambda: [""])
    # eight bytes a file: a second set of 100,000 would cost megabytes and time
    seen: array[int] = field(default_factory=lambda: array("q"))
    new: list[tuple[str, Fingerprint | Irregular]] = field(default_factory=list)


class FolderWatch(FileSystemEventHandler):
    """Events and scans of one folder. `hints` and `reports` fill from its threads; `wake` is set when one does."""

    def __init__(self, root: str, pattern: NamePattern, scan_s: float, wake: threading.Event) -> None:
        self.root = root
        self.pattern = pattern
        self.scan_s = scan_s
        self.hints: queue.SimpleQueue[Hint] = queue.SimpleQueue()
        self.reports: queue.SimpleQueue[ScanReport] = queue.SimpleQueue()
        self.overflows = 0
        self.polling_because: str | None = None
        self.scanning_since_s: float | None = None
        self.looked = 0  # entries that the scan under way has come past
        self.looked_at_s = 0.0
        self._wake = wake
        self._known: set[int] = set()
        self._recent: set[int] = set()
        self._scan_now = threading.Event()
        self._stop = threading.Event()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._scan_for_ever, name=f"scan {root}", daemon=True)

    def start(self, known: set[int]) -> None:
        """Begin to watch, then to scan. `known`: marks of versions that need no second look."""
        self._known = known
        self._count_overflows = _OverflowCounter(self)
        logging.getLogger("watchdog.observers.inotify_c").addHandler(self._count_overflows)
        self._watch()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._scan_now.set()
        if self._observer is not None:
            self._observer.stop()
        logging.getLogger("watchdog.observers.inotify_c").removeHandler(self._count_overflows)

    def scan_soon(self) -> None:
        self._scan_now.set()

    def remember(self, path: str, found: Fingerprint | Irregular) -> None:
        """This version was dealt with: scans need not report it."""
        self._recent.add(version_key(path, found))

    def forget(self, path: str, found: Fingerprint) -> None:
        """Report this version again: something about it was not finished."""
        self._recent.discard(version_key(path, found))
        self._known.discard(version_key(path, found))
        self._scan_now.set()

    def dispatch(self, event) -> None:
        """watchdog's callback, in its thread: keep the relative path and nothing else."""
        path = event.dest_path if isinstance(event, FileMovedEvent) else event.src_path
        if isinstance(event, DirCreatedEvent):
            self._scan_now.set()  # files saved at once into a new folder may have been missed
            return
        name = os.path.relpath(os.fsdecode(path), self.root)
        if self.hints.qsize() > HINTS_MAX:
            self._scan_now.set()
            return
        self.hints.put(Hint(name, isinstance(event, (FileClosedEvent, FileMovedEvent))))
        self._wake.set()

    def _watch(self) -> None:
        """(Re)install the inotify watch on the folder that is there now; without one, scans alone do the work."""
        try:
            status = os.stat(self.root)
        except OSError:
            self._watched = None
            return
        identity = (status.st_dev, status.st_ino)
        if identity == self._watched:
            return
        if self._observer is not None:
            self._observer.stop()
        kinds = [FileClosedEvent, FileMovedEvent, FileCreatedEvent, FileDeletedEvent, DirCreatedEvent]
        try:
            observer = Observer()  # takes an inotify instance: there may be none left
            observer.schedule(self, self.root, recursive=self.pattern.recursive, event_filter=kinds)
            observer.start()
        except OSError as error:
            self.polling_because = f"no file events: {errno.errorcode.get(error.errno or 0, '')} {error.strerror}"
            self._observer, self._watched = None, identity
            return
        self.polling_because = None
        self._observer, self._watched = observer, identity

    def _scan_for_ever(self) -> None:
        while not self._stop.is_set():
            self._scan_now.clear()
            self._watch()
            self._note_looked(0)
            self.scanning_since_s = time.monotonic()
            report = self.scan(self._note_looked)
            self.scanning_since_s = None
            self.reports.put(report)
            self._wake.set()
            pause_s = max(self.scan_s, report.seconds / SCAN_SHARE)
            self._scan_now.wait(1.0 if report.more or report.error else pause_s)

    def _note_looked(self, entries: int) -> None:
        self.looked, self.looked_at_s = entries, time.monotonic()

    def scan(self, tell: Callable[[int], None] = lambda entries: None) -> ScanReport:
        """Look at every entry of the folder once; report the versions that are not known yet, newest first.

        tell: gets the number of entries looked at, now and then.
        """
        began_s, began_cpu_s = time.monotonic(), time.thread_time()
        known = self._known
        known |= self._recent
        self._recent = set()
        this = _Round(known, tell)
        report = ScanReport(began_s, 0.0, [], 0, 0, False, 0, this.ignored)
        try:
            report.device = os.stat(self.root).st_dev
            while this.folders:
                self._visit(this.folders.pop(), this)
            report.lost = len(known) - (len(this.seen) - len(this.new))
        except OSError as error:  # what could not be looked at is not lost
            report.error = f"{self.root}: {error.strerror or error}"
        report.matching = len(this.seen)
        new = this.new
        report.more = len(new) > EMIT_MAX
        if report.more:
            new = heapq.nlargest(EMIT_MAX, new, key=lambda item: item[1][3] if isinstance(item[1], Fingerprint) else 0)
        report.observations = new
        if report.lost:
            known.intersection_update(this.seen)
        known.update(version_key(path, found) for path, found in new)
        report.seconds = time.thread_time() - began_cpu_s
        return report

    def _visit(self, folder: str, this: _Round) -> None:
        """Look at the entries of one folder. Raises OSError where it is the watched folder itself."""
        try:
            fd = os.open(os.path.join(self.root, folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if not folder:
                raise
            this.ignored[f"folder not readable: {error.strerror}"] += 1
            return
        try:
            with os.scandir(fd) as entries:  # by descriptor: their stats need no walk along the folder's path
                self._sift(entries, f"{folder}/" if folder else "", this)
        finally:
            os.close(fd)

    def _sift(self, entries: Iterable[os.DirEntry[str]], prefix: str, this: _Round) -> None:
        included, recursive = self.pattern.included, self.pattern.recursive
        known, seen = this.known, this.seen
        looked = this.looked
        for entry in entries:
            looked += 1
            if not looked & 63:
                this.tell(looked)
            path = prefix + entry.name
            if recursive and entry.is_dir(follow_symlinks=False):
                this.folders.append(path)
            if not included(path):
                if is_hugging_face(self.root, entry.name, in_folder=not recursive):
                    this.ignored[HUGGING_FACE] += 1
                continue
            # Nearly every file of nearly every scan ends here, so this is all that is asked of it: one stat, and
            # whether the mark of that, made as `mark` makes it, is known.
            try:
                s = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone between listing and stat
            except OSError as error:
                self._keep(path, Irregular(f"cannot be looked at: {error.strerror}"), this)
                continue
            name = path if path.isascii() else stored(path)
            key = hash((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
            if key in known:
                seen.append(key)
            elif (found := self._look_at(path, s)) is not None:
                self._keep(path, found, this)
        this.looked = looked

    def _keep(self, path: str, found: Fingerprint | Irregular, this: _Round) -> None:
        """Sort in what is not a regular file of a known stat: nearly always news."""
        key = version_key(path, found)
        if key in this.known:  # so it was not to be ignored
            this.seen.append(key)
        elif why := self.pattern.why_ignored(path):
            this.ignored[why] += 1
        elif isinstance(found, Irregular) and found.alias:
            this.ignored[found.reason] += 1
        else:
            this.seen.append(key)
            this.new.append((path, found))

    def _look_at(self, path: str, status: os.stat_result) -> Fingerprint | Irregular | None:
        try:
            if stat.S_ISLNK(status.st_mode):
                return look(self.root, path)
        except OSError as error:
            return Irregular(f"cannot be looked at: {error.strerror}")
        return fingerprint(status) if stat.S_ISREG(status.st_mode) else Irregular(_not_regular(status.st_mode))


class _OverflowCounter(logging.Handler):
    """watchdog reports a full kernel queue only as a log line; it means: events were lost, scan now."""

    def __init__(self, watch: FolderWatch) -> None:
        super().__init__(logging.WARNING)
        self._watch_of = watch

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._watch_of.overflows += 1
            self._watch_of.scan_soon()


def _look_through(root: str, link: str) -> Irregular:
    """A link is never evaluated itself: its target is a watched file of its own, or none of ours."""
    try:
        status = os.stat(link)
    except FileNotFoundError:
        return Irregular("a link that leads nowhere")
    except OSError as error:
        return Irregular(f"a link that cannot be followed: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Irregular(f"a link to {_not_regular(status.st_mode)}")
    target, inside = os.path.realpath(link), os.path.realpath(root)
    if target.startswith(inside + os.sep):
        return Irregular("a link to a file of the same folder", alias=True)
    return Irregular("a link that leads out of the watched folder")


def _not_regular(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return name
    return "not a regular file"
