"""Many checkpoints at once, while the kernel's event queue overflows: how many the daemon misses.

A real daemon watches. The kernel's queue is shortened to --events for the time (root only; 0 leaves it), so that it
surely overflows. missed: files of which the daemon has no job in the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import machine
from tests.support.daemon import Site, wait_until
from tests.support.tiny import tiny_bytes

LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")


@contextmanager
def shortened(events: int) -> Iterator[str]:
    """The kernel's queue of file events for every instance made meanwhile; yields its length."""
    before = LIMIT.read_text().strip()
    try:
        if events:
            LIMIT.write_text(str(events))
        yield LIMIT.read_text().strip()
    finally:
        if events:
            LIMIT.write_text(before)


def burst(site: Site, files: int) -> None:
    site.start()
    (site.state / "paused").touch()  # registered and queued, but nothing is evaluated
    began_s = time.monotonic()
    for step in range(files):
        (site.folder / f"step_{step:07d}.pt").write_bytes(tiny_bytes(step))
    written_s = time.monotonic()
    print(f"{files} files written in {written_s - began_s:.1f} s", flush=True)

    def whole_scan() -> dict | None:
        """A scan that began after the last file was written."""
        run = (site.health().get("runs") or [{}])[0]
        age_s = run.get("last_scan_age_s")
        if age_s is None:
            return None
        asked_s = time.time() - (site.state / "health.json").stat().st_mtime
        return run if time.monotonic() - asked_s - age_s > written_s else None

    run = wait_until(whole_scan, within_s=600, every_s=0.5)
    print(f"the first scan after that saw {run['matching']}; the kernel dropped events {run['overflows']} time(s)")

    def registered() -> int:
        return site.query("SELECT count(*) FROM jobs")[0][0]

    before = -1
    while (now := registered()) < files and now > before:  # until all have a job, or ten seconds bring none
        before = now
        try:
            wait_until(lambda at=now: registered() > at, within_s=10, every_s=0.5)
        except AssertionError:
            break
    print(f"all of it registered {time.monotonic() - written_s:.0f} s after the last was written")
    print(f"missed = {files - registered()}")
    site.stop()


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--events", type=int, default=1024, help="length of the kernel's queue meanwhile; 0: as it is")


def run(options: argparse.Namespace) -> None:
    print(f"# burst: {machine()}")
    place = tempfile.TemporaryDirectory(prefix="burst", ignore_cleanup_errors=True)
    with place as folder, shortened(options.events) as length:
        print(f"kernel queue of {length} events")
        site = Site(Path(folder), scan_s=5.0)
        try:
            burst(site, options.files)
        finally:
            site.end()
