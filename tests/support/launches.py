"""Launch folders written as the daemon writes them, and real workers drained on them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalcore.launch_folder import LaunchFolder, read_outcome, write_atomically
from evalcore.messages import AttemptRequest, EvalSetSpec, Item, LaunchSpec, Outcome, to_json

ROOT = Path(__file__).resolve().parent.parent.parent


class Launch:
    """One launch folder; attempts are numbered in the order in which tasks are added."""

    def __init__(self, root: Path, sets: Sequence[EvalSetSpec], **settings: Any) -> None:
        self.folder = LaunchFolder(root)
        self.folder.create()
        self.sets = [s.name for s in sets]
        self.attempts = self.items = 0
        spec = LaunchSpec("L1", tuple(sets), device="cpu", cache_dir=str(root.parent / "cache"), **settings)
        write_atomically(self.folder.spec, to_json(spec))

    def add(self, path: Path, digest: str = "", size_bytes: int = 0, sets: Sequence[str] | None = None) -> list[int]:
        """One more item; the attempts of its tasks."""
        tasks = []
        for name in self.sets if sets is None else sets:
            self.attempts += 1
            tasks.append(AttemptRequest(self.attempts, f"token-{self.attempts}", name))
        self.items += 1
        item = Item(os.fsdecode(os.fspath(path)), digest, size_bytes, tuple(tasks))
        write_atomically(self.folder.item(self.items), to_json(item))
        return [task.attempt for task in tasks]

    def start(self, ranks: int = 1, failpoint: str = "", **env: str) -> subprocess.Popen[str]:
        """A worker on this folder: one process, or torchrun with several."""
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        command = [sys.executable, *torchrun, "-m", "evalcore.worker", str(self.folder.root)]
        given = {"OMP_NUM_THREADS": "1", "CKPTWATCH_WORKER_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT), **env}
        return subprocess.Popen(
            command, env={**os.environ, **given}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def drain(self, ranks: int = 1, failpoint: str = "", timeout_s: float = 90) -> int:
        """Run a worker to its end; its exit status."""
        process = self.start(ranks, failpoint)
        try:
            process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return process.returncode

    def outcomes(self) -> dict[int, Outcome]:
        found = [read_outcome(path) for path in (self.folder.root / "outcomes").glob("[0-9]*.json")]
        return {outcome.attempt: outcome for outcome in sorted(found, key=lambda outcome: outcome.attempt)}

    def started(self) -> list[int]:
        return sorted(int(path.name) for path in (self.folder.root / "started").glob("[0-9]*"))


def wait_until(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    """The condition's first true value, looked for every 20 ms; fails the test after timeout_s."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        pause.wait(0.02)
    return found
