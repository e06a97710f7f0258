"""All processes of a launch, found by a variable in their environment, whatever their session and parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

MARK = "CKPTWATCH_LAUNCH"
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans of a launch become children of this process instead of init's, so that they can be waited for."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def members(launch: str) -> list[int]:
    """Living processes whose environment carries the launch's mark (zombies have none)."""
    wanted = f"{MARK}={launch}".encode()
    return [pid for pid in _processes() if wanted in _environment(pid).split(b"\0")]


def kill_members(launch: str) -> list[int]:
    """SIGKILL to all of them; stopped ones die too. Returns their pids."""
    pids = members(launch)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return pids


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: a later process with the same pid has another value."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def reap(known: set[int]) -> None:
    """Wait for those of a launch's dead processes that became children of this one (it is a subreaper).

    known: their pids; those that were waited for, or are no children of this process, are removed from it.
    """
    for pid in tuple(known):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                known.discard(pid)
        except ChildProcessError:
            known.discard(pid)


def owner() -> str:
    """The identity of this daemon among all others: host, boot, pid."""
    return f"{socket.gethostname()}:{boot_id()}:{os.getpid()}"


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""
