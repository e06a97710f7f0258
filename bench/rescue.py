"""kill -9 of the daemon with jobs in hand: how long until they wait in the queue again.

From the start of the next daemon's process, imports included, to the end of the last attempt that the killed one held.
The worker is the fake one, which never answers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.processes import machine
from tests.support.daemon import Site, wait_until
from tests.support.tiny import write_tiny

IN_HAND = "SELECT count(*), count(started_at) FROM attempts WHERE outcome IS NULL"


def one_round(site: Site) -> tuple[float, int]:
    """(seconds to the rescue, jobs rescued): a daemon at work is killed, the next one started."""
    wait_until(lambda: (row := site.query(IN_HAND)[0])[0] >= 3 and row[1] >= 1, within_s=60)
    held = {row[0] for row in site.query("SELECT id FROM attempts WHERE outcome IS NULL")}
    site.kill()
    began_s = time.monotonic()
    site.start(wait=False)

    def over() -> bool:
        return not held & {row[0] for row in site.query("SELECT id FROM attempts WHERE outcome IS NULL")}

    wait_until(over, within_s=60, every_s=0.01)
    return time.monotonic() - began_s, len(held)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--queued", type=int, default=1_000, help="further jobs that wait meanwhile")


def run(options: argparse.Namespace) -> None:
    rounds, queued = options.rounds, options.queued
    print(f"# rescue: {machine()}")
    with tempfile.TemporaryDirectory(prefix="rescue", ignore_cleanup_errors=True) as folder:
        site = Site(Path(folder), rules=[{"do": "hang"}])
        for step in range(queued + 3):
            write_tiny(site.folder / f"step_{step}.pt", step)
        try:
            site.start()
            wait_until(lambda: len(site.jobs()) == queued + 3, within_s=600, every_s=0.5)
            told = [one_round(site) for _ in range(rounds)]
            times_s = [seconds for seconds, _ in told]
            assert all(job[1] in ("queued", "running") and job[3] == 0 for job in site.jobs()), "one was charged"
            print(
                f"{rounds} kills, {sum(jobs for _, jobs in told)} jobs in hand, {queued} more waiting: rescued after",
                end=" ",
            )
            print(f"{statistics.median(times_s):.2f} s in the middle, {max(times_s):.2f} s at most; charged: 0")
            site.kill()
        finally:
            site.end()
