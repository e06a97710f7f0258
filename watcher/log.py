"""The one place where events, health reasons and pauses become sentences. All other code passes names and facts.

`log.event(name, **facts)` fills the template of EVENTS with the facts; a name or fact that is missing there is a bug.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from watcher.domain.checkpoint import printable
from watcher.domain.health import Pause, Paused, Problem, Reason
from watcher.report.format import clock, duration

#: name -> (level, template). Levels: -1 even in `eval`, 0 with -q too, 1 by default, 2 with -v, 3 with -vv.
EVENTS: dict[str, tuple[int, str]] = {
    "daemon_started": (1, "watching {dirs}; results in {database}"),
    "daemon_stopped": (1, "stopped: {reason}"),
    "settings_reloaded": (1, "settings reloaded: the new settings and data are in use"),
    "data_changed": (0, "validation data changed: {files}; hashing it again, then evaluating on the new content"),
    "settings_refused": (0, "settings not reloaded, the old ones stay: {reason}"),
    "settings_wait": (0, "settings not reloaded yet, the old ones stay meanwhile: {reason}"),
    "state_folder_lost": (0, "the state folder {folder} was removed; created again"),
    "order_refused": (0, "order {file} refused and moved to {folder}: {error}"),
    "set_keeps_name": (2, "eval set {eval_set} keeps its name in this database; in a new one it is {default}"),
    "serving": (1, "dashboard at {address}"),
    "scan": (3, "scan of {run}: {matching} files, {new} new, {seconds:.3f} s"),
    "working": (1, "{words}"),
    "worked": (1, "{phase} {of}: done"),
    "no_folder": (0, "{run} waits for its folder: {reason}"),
    "scan_failed": (0, "scan of {run} failed: {reason}"),
    "polling": (0, "{run}: {reason}; scanning the whole folder every {scan_s:g} s instead"),
    "incomplete": (2, "incomplete  {path}: {reason}"),
    "irregular": (0, "{kind:<11} {path}: {reason}"),
    "settled": (1, "settled     {path}  step {step} ({step_source}), {size}, {family}"),
    "known": (2, "known       {path}: the same content as before"),
    "copied": (1, "copied      {path}: the same content was evaluated under another name"),
    "skipped": (2, "skipped     {path}: {reason}"),
    "newest_queued": (1, "{run}: no newer checkpoint for a while; the newest is evaluated though `every` skipped it"),
    "mean_queued": (1, "queued      {path}: the mean of the checkpoints up to it"),
    "pinned": (2, "pinned      {path}: a copy is kept until it is evaluated"),
    "not_pinned": (0, "not pinned  {path}: {reason}"),
    "fault": (0, "error in {part}: {error}; everything else continues, retry in {pause_s:.0f} s"),
    "launched": (2, "launched    {launch}: {nproc} process(es) on {device}"),
    "launch_ended": (2, "launch over {launch}: {reason}"),
    "launch_failed": (0, "cannot launch: {reason}; retry in {pause_s:.0f} s"),
    "evaluating": (1, "evaluating  {path}  step {step} on {eval_set}"),
    "recorded": (
        1,
        "loss {loss}  {path}  step {step} on {eval_set}: ppl {ppl}, {tokens} tokens in {seconds:.1f} s{progress}",
    ),
    "scored": (
        1,
        "accuracy {accuracy}  {path}  step {step} on {eval_set}: {items} items, loss {loss}, in {seconds:.1f} s"
        "{progress}",
    ),
    "sampled": (1, "samples     {path}  step {step}: {texts} text(s) of {eval_set}{progress}"),
    "contradicts_log": (
        0,
        "WARNING     {path} on {eval_set}: loss {loss:.4f}, but the trainer logged {logged:.4f}: it is other data, or "
        "not the model that was trained (activation, positions, factory)",
    ),
    "retry": (0, "retry       {path} on {eval_set} in {pause_s:.0f} s: {kind}: {reason}"),
    "failed": (0, "failed      {path} on {eval_set}: {kind}: {reason}{hint}{progress}"),
    "cancelled": (1, "cancelled   {path} on {eval_set}: {reason}"),
    "stopping": (
        1,
        "stopping    the launch that evaluates {path} on {eval_set}: cancelled; its other jobs are queued again",
    ),
    "rejected": (0, "rejected    a late outcome of {path} on {eval_set}: its token is no longer valid"),
    "rescued": (0, "rescued     {jobs} interrupted job(s) of an earlier daemon, queued again"),
    "queue_changed": (1, "{action}: {jobs} job(s)"),
    "annotated": (1, "run {run}: {kind} from the page, {changed} row(s) changed"),
    "queue_paused": (1, "queue paused: running jobs finish; `ckptwatch queue resume` starts the others"),
    "queue_resumed": (1, "queue resumed"),
    "waiting_for_device": (
        -1,
        "waiting for a device for {seconds:.0f} s: {reason}; to continue now, free GPU memory, lower "
        "launch.reserve_bytes, or use --device cpu (launch.fallback = 'cpu' does so by itself)",
    ),
    "paused": (0, "paused: {reason}"),
    "healed": (0, "resumed: {reason}"),
    "passed_by": (0, "{run}: {words}"),
    "revived": (0, "queued      {path}  from its pinned copy: it was refused under other [model] settings"),
    "overflow": (0, "{run}: the kernel dropped file events; scanning the folder"),
    "dashboard_failed": (0, "no dashboard: {reason}"),
    "page_failed": (0, "page {path} failed: {error} (reference {reference})"),
    "sink_failed": (0, "sink {sink}: {reason}"),
    "alert": (0, "alert       {text}"),
}

#: Reasons of watcher/domain/health.py -> template.
REASONS: dict[Problem, str] = {
    Problem.DATABASE: "{reason}",
    Problem.DATA_MISSING: "validation data cannot be read: {paths}",
    Problem.LAUNCH_FAILED: "torchrun cannot be started: {reason}",
    Problem.PAUSED_BY_USER: "the queue is paused (ckptwatch queue resume)",
    Problem.RUN_MISSING: "run {run}: {reason}",
    Problem.SCAN_STUCK: "run {run}: its scan is stuck for {age_s:.0f} s, after {looked} files: does the mount hang?",
    Problem.SCAN_LATE: "run {run}: the last scan ended {age_s:.0f} s ago",
    Problem.POLLING: "run {run}: {reason}",
    Problem.NO_DEVICE: "waiting for a device: {reason}",
    Problem.QUEUE_OLD: "the oldest waiting job is {hours:.1f} h old",
    Problem.DISK_FULL: "only {mib} MiB are free for the database and its state folder",
    Problem.FAULT: "{part} failed {failures} time(s) and is retried: {error} (the log has the traceback)",
    Problem.RELOAD_WAITS: "the new settings are not applied yet: {reason}",
    Problem.REPORTED: "{text}",
    Problem.NO_DAEMON: "no daemon runs on this database; {last}",
    Problem.OTHER_VERB: "no daemon runs on this database; `ckptwatch {verb}` (pid {pid}) is using it",
    Problem.JUST_STARTED: "daemon {pid} has just started",
    Problem.NO_REPORT: "daemon {pid} has never written its status file",
    Problem.SILENT: "the last heartbeat of daemon {pid} was {silent_s:.0f} s ago; see its log and `ckptwatch doctor`",
    Problem.LOCK_UNREADABLE: "permission denied: {path}; run this as the user that the daemon runs as",
}

#: Why nothing is claimed -> template.
PAUSES: dict[Pause, str] = {
    Pause.BY_USER: "paused by `ckptwatch queue pause`",
    Pause.DATA_MISSING: "validation data cannot be read: {paths}",
    Pause.DATA_CHANGING: "validation data is changing: {paths}",
    Pause.STOPPING: "stopping",
}


def sentence(reason: Reason) -> str:
    """A reason of the health judge in words."""
    facts = dict(reason.facts)
    if reason.problem is Problem.NO_DAEMON:
        silent_s, at = facts.get("silent_s"), facts.get("at")
        when = f"{duration(silent_s)} ago ({clock(at)} UTC)" if silent_s is not None else ""
        facts["last"] = f"the last heartbeat was {when}" if when else "start one with `ckptwatch run`"
    if facts.get("pid", 0) is None:
        facts["pid"] = "(pid unknown)"
    return REASONS[reason.problem].format(**facts)


def paused_words(paused: Paused) -> str:
    return PAUSES[paused.pause].format(paths=", ".join(paused.paths))


#: Events that stand out on a terminal -> SGR colour: failures red, warnings yellow, results green.
COLOURS = {"failed": 31, "fault": 31, "scan_failed": 31, "launch_failed": 31, "data_changed": 33, "retry": 33}
COLOURS |= {"contradicts_log": 33, "paused": 33, "alert": 33, "waiting_for_device": 33, "recorded": 32, "healed": 32}


class Log:
    """Lines on stderr: time and words on a terminal or in a file, words alone under journald.

    The date stands before the time from the first midnight on. Colour only on a terminal, and not with NO_COLOR.
    """

    def __init__(self, verbosity: int = 1, stream: TextIO | None = None) -> None:
        self.verbosity = verbosity
        self._stream = stream or sys.stderr  # None where it was closed before we began
        self._stamped = "JOURNAL_STREAM" not in os.environ
        self._first_day = time.strftime("%Y-%m-%d")
        terminal = self._stream is not None and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = terminal and not os.environ.get("NO_COLOR")

    def event(self, name: str, **facts: object) -> None:
        level, template = EVENTS[name]
        if level > self.verbosity or self._stream is None:
            return
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in facts.items()}
        if "run" in shown and "path" in shown:  # two runs have files of the same names
            shown["path"] = f"{shown['run']}/{shown['path']}"
        words = template.format(**shown)
        line = (f"{self._stamp()} {words}" if self._stamped else words)[:2000]
        self._write(f"\x1b[{COLOURS[name]}m{line}\x1b[0m" if self._coloured and name in COLOURS else line)

    def trace(self, text: str) -> None:
        """The traceback of a fault, below its event."""
        if self.verbosity >= 0:
            self._write("\n".join(printable(line) for line in text[-8000:].splitlines()))

    def _stamp(self) -> str:
        day, now = time.strftime("%Y-%m-%d %H:%M:%S").split(" ")
        return now if day == self._first_day else f"{day} {now}"

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full stderr must not stop the daemon
