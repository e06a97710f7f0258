"""Rows of part E: many files at once. A folder of 100,000, a burst that overflows the kernel's queue, a long queue."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.support.daemon import Site, wait_until
from tests.support.tiny import tiny_bytes, write_tiny
from watcher.detect.events import FolderWatch
from watcher.detect.scan import EMIT_MAX
from watcher.domain.checkpoint import NamePattern


def test_row_48_of_a_hundred_thousand_files_the_newest_are_told_first_and_each_one_once(tmp_path):
    files = 100_000
    for number in range(files):
        os.close(os.open(tmp_path / f"step_{number}.pt", os.O_CREAT | os.O_WRONLY))
    watch = FolderWatch(str(tmp_path), NamePattern(("*.pt",)), 10.0, threading.Event())
    first = watch.scan()
    assert (first.matching, first.more, len(first.observations)) == (files, True, EMIT_MAX)
    told = {path: found.mtime_ns for path, found in first.observations}
    oldest_told = min(told.values())
    for _ in range(2):
        report = watch.scan()
        later = {path: found.mtime_ns for path, found in report.observations}
        assert max(later.values()) <= oldest_told
        assert not later.keys() & told.keys()
        told |= later
        oldest_told = min(later.values())
    assert len(told) == 3 * EMIT_MAX


def test_row_50_a_queue_of_thousands_is_rows_not_memory_and_the_newest_goes_first(site):
    here = site(rules=[{"do": "hang"}], launch={"stall_s": 600.0})
    (here.root / "ckptwatch.db.state").mkdir()
    paused = here.state / "paused"
    paused.touch()
    daemon = here.start()

    def resident_bytes() -> int:
        return int(open(f"/proc/{daemon.pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for step in range(200):
        write_tiny(here.folder / f"step_{step}.pt", step)
    wait_until(lambda: len(here.jobs()) == 200)
    before = resident_bytes()
    for step in range(200, 3000):
        write_tiny(here.folder / f"step_{step}.pt", step)
    wait_until(lambda: len(here.jobs()) == 3000, within_s=120)
    assert resident_bytes() - before < 12 << 20
    paused.unlink()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    in_hand = here.query(
        "SELECT c.step FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN checkpoints c ON c.id = j.checkpoint_id"
        " WHERE a.started_at IS NOT NULL"
    )
    assert in_hand == [(2999,)]


def test_row_49_a_burst_that_overflows_the_kernel_queue_is_complete_after_one_scan(site):
    limit = "/proc/sys/fs/inotify/max_queued_events"
    if not os.access(limit, os.W_OK):
        pytest.skip("the inotify queue cannot be shortened here")
    before = open(limit).read()
    here = Site(site().root, scan_s=30.0, rules=[{"do": "answer", "pause_s": 600}])
    try:
        try:
            with open(limit, "w") as file:
                file.write("16")
        except OSError:
            pytest.skip("the inotify queue cannot be shortened here")
        here.start()
        here.started[-1].send_signal(signal.SIGSTOP)
        for step in range(400):
            (here.folder / f"step_{step}.pt").write_bytes(tiny_bytes(step))
        here.started[-1].send_signal(signal.SIGCONT)
        wait_until(lambda: len(here.jobs()) == 400, within_s=60)
        wait_until(lambda: any(run["overflows"] for run in here.health().get("runs", [])))
    finally:
        with open(limit, "w") as file:
            file.write(before)
        here.end()
