"""Watching one folder: file events as hints, and a thread that scans; the scan is the truth.

Owns the watchdog observer and the scan thread of one run. Never opens a checkpoint; never decides that one is ready.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from watcher.detect.observation import Irregular
from watcher.detect.scan import Count, FolderScan, ScanReport
from watcher.domain.checkpoint import Fingerprint, NamePattern

SCAN_SHARE = 0.0018  # of a core: the pause between scans is stretched until scanning costs no more
HINTS_MAX = 20_000
RETRY_S = 1.0  # after a scan that failed, or that had more to report
INOTIFY_LOG = "watchdog.observers.inotify_c"


@dataclass(frozen=True)
class Hint:
    """An event about this path. closed: its writer closed or renamed it. moved_from: its name before the rename."""

    path: str
    closed: bool
    moved_from: str | None = None
    is_folder: bool = False


class FolderWatch(FileSystemEventHandler):
    """Events and scans of one folder. `hints` and `reports` fill from its threads; `wake` is called when one does."""

    def __init__(self, root: str, pattern: NamePattern, scan_s: float, wake: Callable[[], None]) -> None:
        self.root = root
        self.pattern = pattern
        self.scan_s = scan_s
        self.hints: queue.SimpleQueue[Hint] = queue.SimpleQueue()
        self.reports: queue.SimpleQueue[ScanReport] = queue.SimpleQueue()
        self.overflows = 0
        self.polling_because: str | None = None
        self.scanning_since_s: float | None = None
        self.looked = 0  # entries that the scan under way has looked at
        self.looked_at_s = 0.0
        self._scan = FolderScan(root, pattern)
        self._wake = wake
        self._scan_now = threading.Event()
        self._stop = threading.Event()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None  # (st_dev, st_ino) of the folder that events come from
        self._overflow_counter = _OverflowCounter(self)
        self._thread = threading.Thread(target=self._scan_until_stopped, name=f"scan {root}", daemon=True)

    def start(self, known: set[int]) -> None:
        """Begin to watch, then to scan. `known`: keys of versions that need no second look."""
        self._scan = FolderScan(self.root, self.pattern, known)
        logging.getLogger(INOTIFY_LOG).addHandler(self._overflow_counter)
        self._watch()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._scan_now.set()
        if self._observer is not None:
            self._observer.stop()
        logging.getLogger(INOTIFY_LOG).removeHandler(self._overflow_counter)

    def scan_soon(self) -> None:
        self._scan_now.set()

    def scan(self, report_progress: Count = lambda entries: None) -> ScanReport:
        """One scan in the caller's thread, for a watch that was not started."""
        return self._scan.scan(report_progress)

    def remember(self, path: str, observed: Fingerprint | Irregular) -> None:
        """This version is registered: scans need not report it."""
        self._scan.remember(path, observed)

    def dispatch(self, event: FileSystemEvent) -> None:
        """watchdog's callback, in its thread: keep the relative path and nothing else."""
        if isinstance(event, DirCreatedEvent):
            self._scan_now.set()  # files saved at once into a new folder may have been missed
            return
        if self.hints.qsize() > HINTS_MAX:
            self._scan_now.set()
            return
        if isinstance(event, (FileMovedEvent, DirMovedEvent)):
            names = self._relative(event.dest_path), True, self._relative(event.src_path)
            self.hints.put(Hint(*names, isinstance(event, DirMovedEvent)))
        else:
            self.hints.put(Hint(self._relative(event.src_path), isinstance(event, FileClosedEvent)))
        self._wake()

    def _relative(self, path: str | bytes) -> str:
        return os.path.relpath(os.fsdecode(path), self.root)

    def _watch(self) -> None:
        """(Re)install the inotify watch on the folder that is there now; without one, scans alone do the work."""
        try:
            status = os.stat(self.root)
        except (OSError, ValueError):
            self._watched = None
            return
        identity = (status.st_dev, status.st_ino)
        if identity == self._watched:
            return
        if self._observer is not None:
            self._observer.stop()
        kinds = [FileClosedEvent, FileMovedEvent, FileCreatedEvent, FileDeletedEvent, DirCreatedEvent, DirMovedEvent]
        try:
            observer = Observer()  # takes an inotify instance: there may be none left
            observer.schedule(self, self.root, recursive=self.pattern.looks_below, event_filter=kinds)
            observer.start()
        except OSError as error:
            self.polling_because = f"no file events: {errno.errorcode.get(error.errno or 0, '')} {error.strerror}"
            self._observer, self._watched = None, identity
            return
        self.polling_because = None
        self._observer, self._watched = observer, identity

    def _scan_until_stopped(self) -> None:
        while not self._stop.is_set():
            self._scan_now.clear()
            self._note_looked(0)
            self.scanning_since_s = began_s = time.monotonic()
            try:
                self._watch()
                report = self._scan.scan(self._note_looked)
            except Exception as error:  # one unforeseen error must not leave a daemon that scans no more
                logging.getLogger(__name__).exception("the scan of %s failed", self.root)
                report = ScanReport(began_s, error=f"{self.root}: {type(error).__name__}: {error}")
            self.scanning_since_s = None
            self.reports.put(report)
            self._wake()
            pause_s = max(self.scan_s, report.seconds / SCAN_SHARE)
            self._scan_now.wait(RETRY_S if report.more or report.error else pause_s)

    def _note_looked(self, entries: int) -> None:
        self.looked, self.looked_at_s = entries, time.monotonic()


class _OverflowCounter(logging.Handler):
    """watchdog reports a full kernel queue only as a log line; it means: events were lost, scan now."""

    def __init__(self, watch: FolderWatch) -> None:
        super().__init__(logging.WARNING)
        self._counted = watch

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._counted.overflows += 1
            self._counted.scan_soon()
