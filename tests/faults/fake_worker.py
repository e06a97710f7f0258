"""Stands in for `python -m evalcore.worker.torchrun ... -m evalcore.worker FOLDER` where a test needs no real model.

It speaks the real contract through LaunchFolderIO, reads the real archive for the identity, and starts in a tenth
of torch's time. A JSON list of rules changes its behaviour: [{"match": glob, "do": action, "tries": n, ...}].
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(ROOT))

from evalcore.archive import ArchiveError, probe, summarise  # noqa: E402
from evalcore.archive.container.directory import read_directory  # noqa: E402
from evalcore.archive.container.records import read_entry  # noqa: E402
from evalcore.archive.container.source import OpenFile  # noqa: E402
from evalcore.launch_folder import LaunchFolder  # noqa: E402
from evalcore.loading.content import ContentDigest  # noqa: E402
from evalcore.messages import AttemptRequest, Item, LaunchSpec, Measurement, Outcome, from_json  # noqa: E402
from evalcore.worker.launch_io import LaunchFolderIO  # noqa: E402
from evalcore.worker.process_setup import die_with_parent, end_on  # noqa: E402


def loss_of(digest: str) -> float:
    """The number that the fake gives to a content: any other number under that digest is a fault."""
    return 1.0 + int(digest[-6:], 16) / 0xFFFFFF


def measurement(digest: str, **over) -> Measurement:
    loss = loss_of(digest)
    values = {
        "loss": loss, "ppl": 2.0, "bits_per_byte": None, "loss_stderr": 0.1, "finite": True, "tokens": 64,
        "bytes": None, "seq_len": 32, "stride": 32, "batch_size": 1, "dtype": "float32", "device": "cpu",
        "world_size": 1, "load_seconds": 0.0, "eval_seconds": 0.0, "tokens_per_second": 1.0, "peak_memory_bytes": 1,
        "evalcore_version": "fake", "torch_version": "none", "window_nats": (32 * loss, 32 * loss),
        "window_targets": (32, 32), **over,
    }  # fmt: skip
    return Measurement(**values)


def content_of(path: str) -> str | Outcome:
    """Every record, with its CRC checked, as the real worker reads those of the model."""
    content = ContentDigest()
    try:
        if os.path.isdir(path):
            content.add("folder", summarise(path).digest.encode())
            return content.value()
        with OpenFile(path) as file:
            directory = read_directory(file)
            for name, entry in directory.entries.items():
                content.add(name, read_entry(file, directory, entry))
    except ArchiveError as error:
        return Outcome(0, "", "failed", error.kind, error.reason)
    return content.value()


class FakeWorker:
    """rules: what to do with which file. notes: a folder in which tries are counted and dumps are left."""

    def __init__(self, folder: LaunchFolder, rules: list[dict], notes: Path) -> None:
        self.folder, self.rules, self.notes = folder, rules, notes
        spec = from_json(LaunchSpec, folder.spec.read_text())
        self.launch_io = LaunchFolderIO(folder, spec.linger_s)

    def drain(self) -> None:
        while (text := self.launch_io.next()) is not None:
            if not text:
                continue
            item = from_json(Item, text)
            for task in item.attempts:
                self.launch_io.start(task.attempt)
                self.evaluate(item, task)

    def evaluate(self, item: Item, task: AttemptRequest) -> None:
        rule = self.rule_for(item.shown_path or item.path)
        before = self.identity(item)
        if not isinstance(before, Outcome):
            before = content_of(item.path)
            if before in task.known_contents:
                self.launch_io.answer(Outcome(task.attempt, task.token, "known", content_digest=before))
                return
        if isinstance(before, Outcome):
            self.launch_io.answer(self.addressed(before, task))
            return
        action = rule.get("do", "answer")
        getattr(self, f"do_{action}")(item, task, rule)
        after = self.identity(item)
        pinned = "/spool/" in item.path
        if not pinned and isinstance(after, Outcome) and after.kind != "vanished":
            self.launch_io.answer(self.addressed(after, task))
            return
        if not self.folder.outcome(task.attempt).exists() and action != "no_outcome":
            said = measurement(item.digest, content_digest=before, **rule.get("values", {}))
            self.launch_io.answer(Outcome(task.attempt, task.token, "succeeded", measurement=said))

    def identity(self, item: Item) -> str | Outcome:
        try:
            found = summarise(item.path) if os.path.isdir(item.path) else probe(item.path)
        except FileNotFoundError:
            return Outcome(0, "", "failed", "vanished", "it is gone")
        except ArchiveError as error:
            return Outcome(0, "", "superseded" if error.incomplete else "failed", error.kind, error.reason)
        return found.digest if found.digest == item.digest else Outcome(0, "", "superseded", reason="it changed")

    def addressed(self, outcome: Outcome, task: AttemptRequest) -> Outcome:
        said = {**outcome.__dict__, "attempt": task.attempt, "token": task.token}
        return Outcome(**said)

    def rule_for(self, path: str) -> dict:
        name = path.rsplit("/", 1)[-1]
        for number, rule in enumerate(self.rules):
            if fnmatch.fnmatch(name, rule.get("match", "*")):
                tried = self.notes / f"tried-{number}-{name.encode().hex()[:80]}"
                with open(tried, "a") as file:
                    file.write(".")
                if tried.stat().st_size <= rule.get("tries", 1 << 30):
                    return rule
        return {}

    # -- what a rule may ask for -----------------------------------------------------------------------------------

    def do_answer(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Answers, after a pause where one is asked for; may ignore SIGTERM meanwhile."""
        if rule.get("ignores_term"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if rule.get("pause_s"):
            threading.Event().wait(rule["pause_s"])

    def do_no_outcome(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Leaves the task unanswered, and goes on."""

    def do_fail(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        self.launch_io.answer(Outcome(task.attempt, task.token, "failed", rule["kind"], rule.get("reason", "as told")))

    def do_exit(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        os.write(2, rule.get("says", "").encode("utf-8", "surrogateescape"))
        os._exit(rule["code"])

    def do_signal(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        os.kill(os.getpid(), rule["number"])
        threading.Event().wait(5)

    def do_hang(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Waits (or spins) for ever; may ignore SIGTERM and the cancel file."""
        if rule.get("ignores_term"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if rule.get("stops_itself"):
            os.kill(os.getpid(), signal.SIGSTOP)
        while rule.get("spins"):
            pass
        threading.Event().wait()

    def do_beat(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Hangs, but shows progress: only the wall clock can end it."""
        while True:
            self.folder.progress.write_text(json.dumps({"at": time.time()}))
            threading.Event().wait(0.1)

    def do_escape(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """A grandchild in a session of its own that outlives us, unless it is found."""
        subprocess.Popen(["sleep", "600"], start_new_session=True)

    def do_outcome(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Writes these bytes as its outcome file; a number means that many bytes of zeros, sparse."""
        path = self.folder.outcome(task.attempt)
        what = rule["bytes"]
        with open(path, "wb") as file:
            if isinstance(what, int):
                file.truncate(what)
            else:
                filled = what.replace("ATTEMPT", str(task.attempt)).replace("TOKEN", task.token)
                file.write(filled.encode("utf-8", "surrogateescape"))

    def do_flood(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        chunk = rule["says"].encode("utf-8", "surrogateescape")
        chunk *= max(1, (1 << 16) // len(chunk))
        left = rule["total_bytes"]
        while left > 0:
            left -= os.write(2, chunk)

    def do_eat(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Takes so much memory, really."""
        self.eaten = b"x" * rule["bytes"]

    def do_dump(self, item: Item, task: AttemptRequest, rule: dict) -> None:
        """Leaves what it was born with: environment, open descriptors, working folder, limits."""
        fds = {}
        for fd in os.listdir("/proc/self/fd"):
            try:
                fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                pass
        said = {"env": dict(os.environ), "fds": fds, "cwd": os.getcwd(), "nice": os.nice(0)}
        said["limits"] = Path("/proc/self/limits").read_text()
        (self.notes / "dump.json").write_text(json.dumps(said))


def main() -> int:
    """fake_worker.py RULES_FILE NOTES_FOLDER <the arguments of python -m evalcore.worker.torchrun>"""
    rules_file, notes, *torchrun = sys.argv[1:]
    assert torchrun[1] in ("evalcore.worker.torchrun", "torch.distributed.run"), torchrun  # the latter in Slurm jobs
    die_with_parent()
    folder = LaunchFolder(Path(torchrun[-1]))
    rules = json.loads(Path(rules_file).read_text())
    if not any(rule.get("ignores_cancel") for rule in rules):
        end_on(folder.cancel)
    (Path(notes) / f"pid-{os.getpid()}").touch()
    FakeWorker(folder, rules, Path(notes)).drain()
    return 0


if __name__ == "__main__":
    sys.exit(main())
