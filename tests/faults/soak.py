"""`python -m tests.faults.soak [JOBS]`: JOBS jobs through one daemon; its memory, descriptors and threads stay flat.

The daemon is a process of its own as a user would start it; the worker is the fake one; four sets for each checkpoint.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import Site
from tests.support.tiny import write_tiny

SETS = 4
BACKLOG = 40  # checkpoints written ahead of the results: the queue stays short, as beside a trainer
GROWTH_MAX_BYTES_PER_1000 = 1 << 20
SLOPE_MIN_JOBS = 4000  # over fewer, the warming of caches is all there is to see


@dataclass(frozen=True)
class Sample:
    """One measurement of the daemon's process, after `jobs` jobs."""

    jobs: int
    rss_bytes: int
    descriptors: int
    threads: int


def sample(pid: int, jobs: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    rss_bytes = int(fields["VmRSS"].split()[0]) * 1024
    return Sample(jobs, rss_bytes, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"]))


def soak(site: Site, jobs: int) -> list[Sample]:
    """Run `jobs` jobs; the samples taken on the way, the first after a tenth (caches are warm then)."""
    daemon = site.start()
    checkpoints, written, samples = jobs // SETS, 0, []
    pause = threading.Event()
    stalled_at_s = time.monotonic() + 120
    done = 0
    while done < jobs:
        now = site.query("SELECT count(*) FROM results")[0][0]
        if now != done:
            done, stalled_at_s = now, time.monotonic() + 120
        assert daemon.poll() is None and time.monotonic() < stalled_at_s, site.log()[-3000:]
        while written < min(checkpoints, done // SETS + BACKLOG):
            written += 1
            write_tiny(site.folder / f"step_{written}.pt", written)
        if done >= (len(samples) + 1) * jobs / 20:
            samples.append(sample(daemon.pid, done))
        pause.wait(0.25)
    samples.append(sample(daemon.pid, done))
    assert site.stop(daemon) == 0
    site.assert_sound()
    return samples


def growth_per_1000(samples: list[Sample]) -> float:
    """Slope of the resident memory over the second half, bytes per 1,000 jobs (least squares)."""
    later = samples[len(samples) // 2 :]
    mean_jobs = sum(s.jobs for s in later) / len(later)
    mean_rss = sum(s.rss_bytes for s in later) / len(later)
    above = sum((s.jobs - mean_jobs) * (s.rss_bytes - mean_rss) for s in later)
    below = sum((s.jobs - mean_jobs) ** 2 for s in later)
    return 1000 * above / below if below else 0.0


def main(jobs: int) -> None:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        site = Site(Path(folder), settle_s=0.1, scan_s=2.0, sets=SETS)
        try:
            samples = soak(site, jobs)
        finally:
            site.end()
    for s in samples:
        print(f"{s.jobs:>7} jobs  {s.rss_bytes / 1e6:6.1f} MB  {s.descriptors:>3} descriptors  {s.threads} threads")
    grown = growth_per_1000(samples)
    seconds = time.monotonic() - began_s
    print(f"{jobs} jobs in {seconds:.0f} s ({jobs / seconds:.0f}/s); memory grew {grown / 1e6:+.3f} MB per 1,000 jobs")
    flat = {(s.descriptors, s.threads) for s in samples}
    print(
        f"descriptors {min(f[0] for f in flat)} to {max(f[0] for f in flat)}, threads up to {max(f[1] for f in flat)}"
    )
    if jobs >= SLOPE_MIN_JOBS:
        assert grown <= GROWTH_MAX_BYTES_PER_1000, "memory is not flat"
    assert max(f[0] for f in flat) - min(f[0] for f in flat) <= 8, "descriptors are not flat"
    assert max(f[1] for f in flat) - min(f[1] for f in flat) <= 2, "threads are not flat"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
