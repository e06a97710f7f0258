"""A launch in the daemon's hands: its open attempts, its signs of life, what its folder says of them.

Reads and writes files of the launch folder. Never touches the database, never starts or stops a process.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from evalcore.launch_folder import LaunchFolder, read_outcome, write_atomically
from evalcore.messages import ContractError, Item, from_json, to_json
from watcher.domain.job import AttemptEnd, Cause
from watcher.launch.protocol import Running
from watcher.store.write.queue import Held, OpenAttempt


@dataclass
class OpenTask:
    """One open attempt, and when its worker started on it. cancelled: by a person; its token is void."""

    held: Held
    started_s: float | None = None
    cancelled: bool = False


@dataclass
class OpenLaunch:
    """A launch that runs: its open attempts, and when it last gave a sign of progress."""

    running: Running
    open: dict[int, OpenTask] = field(default_factory=dict)
    items: int = 0
    fed: bool = True
    ever_started: bool = False
    progress_mtime_ns: int = 0
    progress_s: float = field(default_factory=time.monotonic)
    stopped: Cause | None = None

    @property
    def folder(self) -> LaunchFolder:
        return self.running.plan.folder

    def take_out(self, attempts: Collection[int]) -> None:
        """Take these tasks out of the items. An item that the worker has read already stays as it was: it will start
        on the task, and that is seen."""
        for attempt in attempts:
            self.open[attempt].cancelled = True
        left = set(attempts)
        for path in sorted(self.folder.items.glob("[0-9]*.json"), reverse=True):
            if not left:
                return
            try:
                item: Item = from_json(Item, path.read_text(encoding="utf-8", errors="surrogateescape"))
                kept = tuple(task for task in item.tasks if task.attempt not in left)
                if len(kept) < len(item.tasks):
                    left -= {task.attempt for task in item.tasks}
                    write_atomically(path, to_json(replace(item, tasks=kept)))
            except (OSError, ContractError):
                continue  # a full disk, say: as if the worker had read it already


def read_end(folder: LaunchFolder, attempt: OpenAttempt) -> AttemptEnd | None:
    """What the attempt's outcome file says; None where there is none yet. A wrong token or shape is `protocol`."""
    path = folder.outcome(attempt.id)
    try:
        outcome = read_outcome(path)
    except FileNotFoundError:
        return None
    except (ContractError, OSError, UnicodeError) as error:
        return AttemptEnd(Cause.PROTOCOL, True, None, str(error)[:500])
    if outcome.token != attempt.token or outcome.attempt != attempt.id:
        return AttemptEnd(Cause.PROTOCOL, True, None, f"{path.name} answers for another attempt")
    return AttemptEnd(Cause.ENDED, True, outcome)
