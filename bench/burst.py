"""`python -m bench.burst [FILES] [QUEUE]`: FILES checkpoints at once, while the kernel's event queue overflows.

A real daemon watches. The kernel's queue is shortened to QUEUE events for the time (root only; 0 leaves it), so that it
surely overflows. missed: files of which the daemon has no job in the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        told = (site.health().get("runs") or [{}])[0]
        age_s = told.get("last_scan_age_s")
        asked_s = time.time() - (site.state / "health.json").stat().st_mtime
        return told if age_s is not None and time.monotonic() - asked_s - age_s > written_s else None

    told = wait_until(whole_scan, within_s=600, every_s=0.5)
    print(f"the first scan after that saw {told['matching']}; the kernel dropped events {told['overflows']} time(s)")

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


def main(files: int, events: int) -> None:
    place = tempfile.TemporaryDirectory(prefix="burst", ignore_cleanup_errors=True)
    with place as folder, shortened(events) as length:
        print(f"kernel queue of {length} events")
        site = Site(Path(folder), scan_s=5.0)
        try:
            burst(site, files)
        finally:
            site.end()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1024)
