"""The only place where an event becomes words. Everything else says `log.event(name, **facts)`."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from watcher.domain.checkpoint import printable

#: name -> (level, template). Levels: 0 always, 1 by default, 2 with -v, 3 with -vv.
EVENTS: dict[str, tuple[int, str]] = {
    "daemon_started": (1, "watching {dirs}; results in {database}"),
    "daemon_stopped": (1, "stopped: {reason}"),
    "settings_reloaded": (1, "settings reloaded from {file}"),
    "data_changed": (0, "validation data changed: {files}; hashing it again, and evaluating on what it holds now"),
    "settings_refused": (0, "settings not reloaded: {reason}"),
    "serving": (1, "dashboard at {address}"),
    "scan": (3, "scan of {run}: {matching} files, {new} new, {seconds:.3f} s"),
    "working": (1, "{words}"),
    "worked": (1, "{phase} {of}: done"),
    "scan_failed": (0, "scan of {run} failed: {reason}"),
    "polling": (0, "{run}: {reason}; looking at the whole folder every {scan_s:g} s instead"),
    "incomplete": (2, "incomplete  {path}: {reason}"),
    "irregular": (0, "{kind:<11} {path}: {reason}"),
    "settled": (1, "settled     {path}  step {step} ({step_source}), {size}, {family}"),
    "known": (2, "known       {path}: the same content as before"),
    "copied": (1, "copied      {path}: the same content was evaluated under another name"),
    "skipped": (2, "skipped     {path}: {reason}"),
    "pinned": (2, "pinned      {path}: a copy is kept until it is evaluated"),
    "not_pinned": (0, "not pinned  {path}: {reason}"),
    "launched": (2, "launched    {launch}: {nproc} process(es) on {device}"),
    "launch_ended": (2, "launch over {launch}: {reason}"),
    "launch_failed": (0, "cannot launch: {reason}; trying again in {pause_s:.0f} s"),
    "evaluating": (1, "evaluating  {path}  step {step} on {eval_set}"),
    "recorded": (1, "loss {loss}  {path}  step {step} on {eval_set}: ppl {ppl}, {tokens} tokens in {seconds:.1f} s"),
    "retry": (0, "retry       {path} on {eval_set} in {pause_s:.0f} s: {kind}: {reason}"),
    "failed": (0, "failed      {path} on {eval_set}: {kind}: {reason}"),
    "cancelled": (1, "cancelled   {path} on {eval_set}: {reason}"),
    "stopping": (
        1,
        "stopping    the launch that evaluates {path} on {eval_set}: cancelled; its other jobs wait again",
    ),
    "rejected": (0, "rejected    a late answer for {path} on {eval_set}: its token is no longer valid"),
    "rescued": (0, "rescued     {jobs} interrupted job(s) of an earlier daemon"),
    "queue_changed": (1, "{action}: {jobs} job(s)"),
    "waiting_for_device": (1, "waiting for a device: {reason}"),
    "paused": (0, "paused: {reason}"),
    "healed": (0, "going on: {reason}"),
    "overflow": (0, "{run}: the kernel dropped file events; scanning the folder"),
    "dashboard_failed": (0, "no dashboard: {reason}"),
    "sink_failed": (0, "sink {sink}: {reason}"),
    "alert": (0, "alert       {text}"),
}


class Log:
    """Lines on stderr: time and words on a terminal or in a file, words alone under journald."""

    def __init__(self, verbosity: int = 1, stream: TextIO | None = None) -> None:
        self.verbosity = verbosity
        self._stream = stream or sys.stderr  # None where it was closed before we began
        self._stamped = "JOURNAL_STREAM" not in os.environ

    def event(self, name: str, **facts: object) -> None:
        level, template = EVENTS[name]
        if level > self.verbosity or self._stream is None:
            return
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in facts.items()}
        words = template.format(**shown)
        line = f"{time.strftime('%H:%M:%S')} {words}" if self._stamped else words
        try:
            self._stream.write(line[:2000] + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full stderr must not stop the daemon
