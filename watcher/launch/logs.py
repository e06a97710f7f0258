"""A launch's log on disk: its first and its last megabyte, whatever it printed in between.

Also a script, which a Slurm job runs from its launch folder on a node that need not have ckptwatch; so nothing but the
standard library is imported here. usage: logs.py LOG COMMAND [ARG ...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 20


class LogPump:
    """Reads a pipe to its end in its own thread and keeps head and tail: the writer never blocks."""

    def __init__(self, pipe: int, path: Path) -> None:
        self._pipe = pipe
        self._path = path
        self._thread = threading.Thread(target=self._pump, name=f"log {path.parent.name}", daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _pump(self) -> None:
        head_left, tail_size = HEAD_BYTES, 0
        tail, older = tail_paths(self._path)
        try:
            while chunk := os.read(self._pipe, 1 << 16):
                try:
                    if head_left > 0:
                        _append(self._path, chunk[:head_left])
                        head_left, chunk = head_left - len(chunk), chunk[max(head_left, 0) :]
                    if chunk:
                        if tail_size + len(chunk) > TAIL_BYTES // 2 and tail.exists():
                            os.replace(tail, older)
                            tail_size = 0
                        _append(tail, chunk)
                        tail_size += len(chunk)
                except OSError:
                    continue  # a full disk costs the log, never the job
        finally:
            os.close(self._pipe)


def read_log(path: Path) -> str:
    """Head, a line that says what is missing, and tail; undecodable bytes and control characters are escaped."""
    tail, older = tail_paths(path)
    parts = [part.read_bytes() for part in (path, older, tail) if part.exists()]
    if len(parts) > 2:
        parts.insert(1, b"\n[... the middle of this log was not kept ...]\n")
    text = b"".join(parts).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def log_tail(path: Path, limit: int = 4096) -> str:
    """The end of the log, at most `limit` characters."""
    try:
        return read_log(path)[-limit:].strip()
    except OSError:
        return ""


def tail_paths(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".tail"), path.with_suffix(".tail.old")


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def main(path: str, *command: str) -> int:
    """Run a command with its output in a log; its exit status, or 128 and the signal that ended it, as a shell has it.

    Signals to the whole job reach the command too; here they are ignored, so that its last output is still read.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a handler, which the command does not inherit as SIG_IGN is
    reading, writing = os.pipe()
    pump = LogPump(reading, Path(path))
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    except OSError as error:
        os.write(writing, f"{command[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        child = None
    os.close(writing)
    status = child.wait() if child else 127
    pump.finish(timeout_s=1.0)  # bounded: a process that outlives the command may hold the pipe
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
