"""Orders from the command line to a running daemon: one small file each in its inbox, in order of arrival.

Only the files. pipeline/orders.py carries them out, in the daemon or, where none runs, in the command itself.
"""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from evalcore.launch_folder import write_atomically

_ORDER_BYTES = 16 << 20  # an order for 300,000 jobs has 2.4 MB
ACTIONS = ("retry", "cancel", "bump", "pause", "resume", "annotate")


@dataclass(frozen=True)
class Annotation:
    """A note or tag (`kind`) of a run or one of its checkpoints; or, with `remove`, the number of one to remove."""

    run: str
    checkpoint_id: int | None
    kind: str
    text: str
    remove: int | None = None


@dataclass(frozen=True)
class Order:
    """retry, cancel, bump: for these jobs. pause, resume: for the whole queue. annotate: see Annotation."""

    action: str
    jobs: tuple[int, ...] = ()
    annotation: Annotation | None = None


def send(inbox: Path, order: Order) -> Path:
    path = inbox / f"{time.time_ns():020d}-{os.getpid()}.json"
    write_atomically(path, json.dumps(asdict(order)))
    return path


def take(inbox: Path) -> list[tuple[Path, Order]]:
    """The waiting orders, oldest first; the caller removes each file once the order is applied.

    Files that are no order are removed; anything else under such a name (a FIFO, a folder, a link) is not read.
    """
    orders = []
    try:
        names = sorted(name for name in os.listdir(inbox) if name.endswith(".json") and not name.startswith("."))
    except OSError:
        return []
    for name in names:
        path = inbox / name
        try:
            content = _content(path)
            if content is None:
                continue
            payload = json.loads(content)
            note = Annotation(**payload["annotation"]) if payload.get("annotation") else None
            order = Order(str(payload["action"]), tuple(int(job) for job in payload["jobs"]), note)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            order = None
        if order is None or order.action not in ACTIONS or (order.action == "annotate") == (order.annotation is None):
            path.unlink(missing_ok=True)
        else:
            orders.append((path, order))
    return orders


def _content(path: Path) -> bytes | None:
    """The bytes of a regular file of bounded size, opened without waiting; None for anything else. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _ORDER_BYTES:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)
