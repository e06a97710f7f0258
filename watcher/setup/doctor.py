"""Can this machine run ckptwatch? Each finding: the observation and the fix. Changes nothing, imports no torch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from watcher.settings.schema import Settings
from watcher.setup import inputs, software, storage
from watcher.setup.finding import Finding
from watcher.state.folder import StateFolder

INSTANCES_MIN, WATCHES_MIN = 128, 8_192
WALK_MAX = 20_000


def examine(settings: Settings, url: str, state: StateFolder, now_s: float) -> list[Finding]:
    """Every check, in reading order."""
    return [
        *software.python(),
        *software.torch(settings),
        *storage.database(url),
        *storage.state_folder(state),
        *inotify(settings),
        *inputs.runs(settings, now_s),
        *inputs.data(settings),
        *inputs.suites(settings),
        *inputs.samples(settings),
        *inputs.tokenizers(settings),
        *clock(now_s),
        *devices(settings),
        *software.extras(settings, url),
    ]


def inotify(settings: Settings) -> Iterator[Finding]:
    base = Path("/proc/sys/fs/inotify")
    try:
        instances = int((base / "max_user_instances").read_text())
        watches = int((base / "max_user_watches").read_text())
    except (OSError, ValueError):
        yield Finding(
            "inotify",
            "note",
            "no inotify: new files are found by scans only",
            "no action needed; scan_s is the interval",
        )
        return
    folders = sum(_count_folders(run.dir) for run in settings.run if any("**" in glob for glob in run.include))
    words = f"{watches} watches, {instances} instances allowed" + (f"; {folders} folders to watch" if folders else "")
    low = watches < max(WATCHES_MIN, 2 * folders) or instances < INSTANCES_MIN
    fix = "sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512; until then scans find new files"
    yield Finding("inotify", "warning" if low else "ok", words, fix if low else "")


def clock(now_s: float) -> Iterator[Finding]:
    year = time.gmtime(now_s).tm_year
    if year < 2025:
        yield Finding("clock", "problem", f"the system clock is in {year}", "timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)))


def devices(settings: Settings) -> Iterator[Finding]:
    from watcher.launch.cpus import usable_cpus
    from watcher.launch.driver import ask_driver

    if settings.launch.executor == "slurm":  # whose nodes have the devices, not this machine
        if sbatch := shutil.which("sbatch"):
            yield Finding("devices", "ok", f"jobs run in Slurm: {sbatch}")
        else:
            what = "launch.executor is slurm, but sbatch is not on PATH"
            yield Finding("devices", "problem", what, "run ckptwatch on a host where `sbatch --version` works")
        return
    report = ask_driver()
    if report.problem and settings.launch.device != "cpu":
        yield Finding("devices", "problem", report.problem, 'nvidia-smi; or device = "cpu"')
        return
    for reason in report.left_out:
        yield Finding("devices", "warning", f"left out: {reason}", "nvidia-smi")
    if report.gpus:
        free = (f"GPU {gpu.index or gpu.uuid} {gpu.free_bytes / 2**30:.1f} GiB free" for gpu in report.gpus)
        yield Finding("devices", "ok", ", ".join(free))
    elif settings.launch.device == "cuda":
        yield Finding(
            "devices",
            "problem",
            "launch.device is cuda, but the driver reports no GPU",
            'nvidia-smi; or device = "cpu"',
        )
    else:
        yield Finding("devices", "ok", f"no GPU: jobs run on {usable_cpus()} CPU(s)")


def _count_folders(root: Path) -> int:
    count = 0
    for _ in os.walk(root):
        count += 1
        if count >= WALK_MAX:
            break
    return count
