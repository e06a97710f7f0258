"""How many CPUs a job may keep busy: what the scheduler and the container allow, not what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """CPUs of the affinity mask, or fewer where a control group of this process has a quota."""
    quotas = [quota for folder in _own_groups(cgroups, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def _own_groups(cgroups: Path, membership: Path) -> list[Path]:
    """The folders of this process's control groups and of their parents, versions 2 and 1."""
    folders = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        folder = root / path.lstrip("/")
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return folders


def _quota(folder: Path) -> int | None:
    """CPUs that the group may use at once, rounded up; None where it has no quota."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # "max", or -1
    return max(1, math.ceil(int(quota) / int(period)))
