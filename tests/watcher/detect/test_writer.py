"""A file that can still be written to is waited for, although its stat does not change; with real mappings."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support import checkpoints
from watcher.detect.events import FolderWatch
from watcher.detect.probe import FolderProber, Rejection, SettledFile
from watcher.detect.settle import Settler
from watcher.detect.writer import is_open_for_writing
from watcher.domain.checkpoint import NamePattern


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = checkpoints.save_rosellm(tmp_path / "step_1.pt", step=1)
    if is_open_for_writing(str(path)) is None:
        pytest.skip("this file system has no leases")
    return path


def mapped(path: Path) -> mmap.mmap:
    with open(path, "r+b") as writing:
        return mmap.mmap(writing.fileno(), 0)


def test_a_writer_is_seen_by_its_handle_or_its_mapping_and_a_reader_is_not(file: Path) -> None:
    assert is_open_for_writing(str(file)) is False
    with open(file, "rb"):
        assert is_open_for_writing(str(file)) is False
    with open(file, "r+b"):
        assert is_open_for_writing(str(file)) is True
    mapping = mapped(file)
    assert is_open_for_writing(str(file)) is True
    mapping.close()
    assert is_open_for_writing(str(file)) is False


def test_the_question_leaves_no_lease_and_no_signal_behind(file: Path) -> None:
    """A lease that stayed would block the trainer's next open, and break it with SIGIO, which ends a process."""
    for _ in range(100):
        is_open_for_writing(str(file))
        os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
    reading = os.open(file, os.O_RDONLY)
    assert fcntl.fcntl(reading, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(reading)


def test_a_last_write_through_a_mapping_comes_before_the_file_is_taken(file: Path) -> None:
    """Complete and quiet by its stat, which the write does not change."""
    mapping = mapped(file)
    mapping[100] = mapping[100]  # the page is dirty from here on: later writes change no time
    pattern = NamePattern(("*.pt",))
    watch = FolderWatch(str(file.parent), pattern, 3600.0, threading.Event())  # not started: looked at by hand
    prober = FolderProber(str(file.parent), pattern, watch, Settler(1e-9, 600.0))
    watch.reports.put(watch.scan())
    prober.take_in(time.monotonic())
    before = file.stat()
    (waiting,) = prober.settled(time.monotonic(), 10)
    assert isinstance(waiting, Rejection) and not waiting.final and "open for writing, or mapped" in waiting.reason
    mapping[100] ^= 1
    mapping[100] ^= 1
    after = file.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert list(prober.settled(time.monotonic(), 10)) == []  # said once
    mapping.close()
    (taken,) = prober.settled(time.monotonic(), 10)
    assert isinstance(taken, SettledFile) and taken.path == "step_1.pt"


def test_a_handle_that_is_never_closed_delays_a_complete_file_no_longer_than_an_incomplete_one(file: Path) -> None:
    pattern = NamePattern(("*.pt",))
    watch = FolderWatch(str(file.parent), pattern, 3600.0, threading.Event())
    prober = FolderProber(str(file.parent), pattern, watch, Settler(1e-9, 60.0))
    with open(file, "r+b"):
        watch.reports.put(watch.scan())
        prober.take_in(0.0)
        (waiting,) = prober.settled(1.0, 10)
        assert isinstance(waiting, Rejection)
        (taken,) = prober.settled(60.0, 10)
        assert isinstance(taken, SettledFile)


def test_a_single_pass_takes_a_complete_file_although_it_is_open(file: Path) -> None:
    pattern = NamePattern(("*.pt",))
    watch = FolderWatch(str(file.parent), pattern, 3600.0, threading.Event())
    prober = FolderProber(str(file.parent), pattern, watch, Settler(1e-9, 60.0), patient=False)
    with open(file, "r+b"):
        watch.reports.put(watch.scan())
        prober.take_in(0.0)
        assert [type(item) for item in prober.settled(1.0, 10)] == [SettledFile]
