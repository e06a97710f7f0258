"""Orders from the command line to a running daemon: one small file each, applied by `tick`, in order of arrival.

Where no daemon holds the lock, the command takes it and applies the order itself: there is one writer at any time.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from evalcore.launch_folder import write_atomically

ACTIONS = ("retry", "cancel", "bump", "pause", "resume")


@dataclass(frozen=True)
class Order:
    """retry, cancel, bump: for these jobs. pause, resume: for the whole queue."""

    action: str
    jobs: tuple[int, ...] = ()


def send(inbox: Path, order: Order) -> Path:
    path = inbox / f"{time.time_ns():020d}-{os.getpid()}.json"
    write_atomically(path, json.dumps(asdict(order)))
    return path


def take(inbox: Path) -> list[tuple[Path, Order]]:
    """Orders that wait, oldest first; the caller removes each file once the order is applied. Junk is removed."""
    orders = []
    try:
        names = sorted(name for name in os.listdir(inbox) if name.endswith(".json") and not name.startswith("."))
    except OSError:
        return []
    for name in names:
        path = inbox / name
        try:
            said = json.loads(path.read_text())
            order = Order(str(said["action"]), tuple(int(job) for job in said["jobs"]))
        except (OSError, ValueError, KeyError, TypeError):
            order = None
        if order is None or order.action not in ACTIONS:
            path.unlink(missing_ok=True)
        else:
            orders.append((path, order))
    return orders
