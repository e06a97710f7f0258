"""One open launch: its open attempts, when it last made progress, and the files of its folder.

Never touches the database, never starts or stops a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from evalcore.launch_folder import LaunchFolder, read_outcome, write_atomically
from evalcore.messages import AttemptRequest, ContractError, Item, Member, from_json, to_json
from watcher.detect.spool import Spool
from watcher.domain.job import AttemptEnd, Cause
from watcher.launch.protocol import Launcher, Running
from watcher.store.write.attempts import Held, OpenAttempt
from watcher.store.write.claimed import ClaimedCheckpoint, ClaimedMember

SCRATCH = "tmp"  # TMPDIR of a local launch, below its folder


@dataclass
class OpenTask:
    """One open attempt, and when its worker started on it. cancelled: by a user; its token is void."""

    held: Held
    started_s: float | None = None
    cancelled: bool = False


@dataclass
class OpenLaunch:
    """A launch that runs. launcher: the one that started it, which a reload of the settings may have replaced.

    fed: it gets further checkpoints. stopped: why it is being ended.
    """

    running: Running
    launcher: Launcher
    open: dict[int, OpenTask] = field(default_factory=dict)
    items: int = 0
    fed: bool = True
    ever_started: bool = False
    progress_mtime_ns: int = 0
    progress_s: float = field(default_factory=time.monotonic)
    stopped: Cause | None = None

    @property
    def id(self) -> str:
        return self.running.plan.launch

    @property
    def folder(self) -> LaunchFolder:
        return self.running.plan.folder

    def hold(self, claimed: ClaimedCheckpoint) -> None:
        """Take the claimed jobs as open attempts of this launch."""
        for job in claimed.jobs:
            attempt = OpenAttempt(job.attempt, job.token, self.id, job.facts)
            self.open[job.attempt] = OpenTask(Held(attempt, claimed, job.eval_set))

    def write_item(self, claimed: ClaimedCheckpoint, run_dir: Path, spool: Path) -> None:
        """Hand the checkpoint to the worker. Raises OSError."""
        self.items += 1
        attempts = tuple(
            AttemptRequest(job.attempt, job.token, job.eval_set, job.known_contents) for job in claimed.jobs
        )
        members = tuple(
            Member(path, m.digest, m.size_bytes, m.weight, m.shown_path, beside)
            for m in claimed.members
            for path, beside in [_place(m, run_dir, spool)]
        )
        path, beside = (members[0].path, members[0].beside) if members else _place(claimed, run_dir, spool)
        size_bytes = claimed.size_bytes
        item = Item(path, claimed.digest, size_bytes, attempts, claimed.shown_path, beside=beside, members=members)
        write_atomically(self.folder.item(self.items), to_json(item))

    def unstarted_checkpoints(self) -> int:
        """Checkpoints that it holds and has not started on."""
        waiting = [task for task in self.open.values() if task.started_s is None and not task.cancelled]
        return len({task.held.checkpoint.id for task in waiting})

    def stop(self, cause: Cause, *, at_once: bool = False) -> None:
        """Begin to end it; harmless when repeated. The first cause stands."""
        self.stopped = self.stopped or cause
        self.launcher.stop(self.running, at_once=at_once)

    def take_out(self, attempts: Collection[int]) -> None:
        """Take these tasks out of the items. An item that the worker has already read does not change: the worker
        starts on the task, and `started` shows it."""
        for attempt in attempts:
            self.open[attempt].cancelled = True
        left = set(attempts)
        for path in sorted(self.folder.items.glob("[0-9]*.json"), reverse=True):
            if not left:
                return
            try:
                item: Item = from_json(Item, path.read_text(encoding="utf-8", errors="surrogateescape"))
                kept = tuple(request for request in item.attempts if request.attempt not in left)
                if len(kept) < len(item.attempts):
                    left -= {request.attempt for request in item.attempts}
                    write_atomically(path, to_json(replace(item, attempts=kept)))
            except (OSError, ContractError):
                continue  # a full disk, say: as if the worker had read it already


def _place(claimed: ClaimedCheckpoint | ClaimedMember, run_dir: Path, spool: Path) -> tuple[str, str]:
    """(what to open, the trainer's own path). The copy is on another host where that one registered it."""
    original = os.path.join(run_dir, claimed.path)
    pinned = Spool(spool, 0).locate(claimed.spool_path) if claimed.spool_path is not None else None
    return os.fspath(pinned or original), original


def read_end(folder: LaunchFolder, attempt: OpenAttempt) -> AttemptEnd | None:
    """The attempt's end from its outcome file; None where there is none yet. A wrong token or shape is `protocol`."""
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
