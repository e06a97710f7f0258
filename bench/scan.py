"""One scan of a folder of 100,000 `.pt`, the first time and each time after.

Seconds of the scanning thread's own CPU, and of listing and stat alone beside each: a busy machine moves both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time

from bench.processes import machine
from watcher.detect.events import FolderWatch
from watcher.domain.checkpoint import NamePattern

SCANS = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=100_000)


def run(options: argparse.Namespace) -> None:
    print(f"# scan: {machine()}")
    with tempfile.TemporaryDirectory(prefix="scan") as folder:
        for number in range(options.files):
            os.close(os.open(f"{folder}/step_{number:07d}.pt", os.O_CREAT | os.O_WRONLY))
        watch = FolderWatch(folder, NamePattern(("*.pt",)), 10.0, threading.Event())
        began_s = time.perf_counter()
        report = watch.scan()
        print(
            f"first scan of {report.matching} files: {report.seconds:.3f} s CPU, {time.perf_counter() - began_s:.3f} s"
        )
        while report.more:
            report = watch.scan()
        for _ in range(SCANS):
            began_s = time.perf_counter()
            report = watch.scan()
            assert not report.observations
            wall_s, began_s = time.perf_counter() - began_s, time.thread_time()
            with os.scandir(folder) as entries:
                for entry in entries:
                    entry.stat(follow_symlinks=False)
            bare_s = time.thread_time() - began_s
            print(
                f"steady scan: {report.seconds:.3f} s CPU, {wall_s:.3f} s; listing and stat alone: {bare_s:.3f} s CPU"
            )
