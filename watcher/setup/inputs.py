"""Checks of what the settings name for reading: watched folders, validation data, tokenizers."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from watcher.domain.checkpoint import NamePattern
from watcher.domain.passed_by import passed_by
from watcher.errors import ConfigError, EnvironmentProblem
from watcher.launch.datafiles import run_data_command
from watcher.settings.schema import Settings
from watcher.settings.tasks import suite_members
from watcher.setup.discover import count_ignored
from watcher.setup.finding import Finding
from watcher.store.engine import NETWORK_FILESYSTEMS, filesystem_type

TEXT_ENDS = (".txt", ".text", ".md", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
FUTURE_S = 60.0


def runs(settings: Settings, now_s: float) -> Iterator[Finding]:
    for run in settings.run:
        check = f"run {run.name}"
        if not run.dir.is_dir():
            yield Finding(
                check, "warning", f"{run.dir} does not exist yet", "the daemon waits for it; or correct `dir`"
            )
            continue
        if not os.access(run.dir, os.R_OK | os.X_OK):
            yield Finding(
                check, "problem", f"{run.dir} cannot be read by this user", f"chmod o+rx {run.dir}, or run as its owner"
            )
            continue
        for words in passed_by(count_ignored(run.dir, NamePattern(run.include, run.exclude))):
            yield Finding(check, "note", f"{run.dir}: {words}", "add a glob to `include` in [[run]]")
        kind = filesystem_type(run.dir)
        if kind in NETWORK_FILESYSTEMS:
            words = f"{run.dir} is on {kind}: writes from other machines produce no events"
            yield Finding(
                check, "note", words, f"scans find them every {run.scan_s:g} s; lower scan_s to find them sooner"
            )
        else:
            yield Finding(check, "ok", f"{run.dir} on {kind or 'an unknown file system'}")
        ahead_s = _newest_mtime_s(run.dir) - now_s
        if ahead_s > FUTURE_S:
            words = f"a file in {run.dir} has a modification time {ahead_s:.0f} s in the future"
            yield Finding("clock", "warning", words, "synchronise the clocks of both machines with NTP")


def data(settings: Settings) -> Iterator[Finding]:
    for entry in settings.eval:
        for given in entry.data:
            paths = glob.glob(given, recursive=True) if glob.has_magic(given) else [given]
            unreadable = [path for path in paths if not os.access(path, os.R_OK)]
            if not paths or unreadable:
                words = f"{(unreadable or [given])[0]} does not exist or cannot be read"
                yield Finding(f"eval {entry.name}", "problem", words, "correct `data`; ckptwatch data sniff PATH")
            else:
                yield Finding(f"eval {entry.name}", "ok", f"{len(paths)} file(s)")


def suites(settings: Settings) -> Iterator[Finding]:
    for suite in settings.suite:
        try:
            members = suite_members(suite)
        except ConfigError as error:
            yield Finding(f"suite {suite.name}", "problem", str(error.cause), "correct `data`")
        else:
            yield Finding(f"suite {suite.name}", "ok", f"{len(members)} tasks")


def samples(settings: Settings) -> Iterator[Finding]:
    for entry in settings.sample:
        file = entry.prompts_file
        if file is not None and not os.access(file, os.R_OK):
            words = f"{file} does not exist or cannot be read"
            yield Finding(f"sample {entry.name}", "problem", words, "correct `prompts_file`")
        elif entry.tokenizer in (None, "auto"):
            words = "no tokenizer is named: only checkpoint folders with their own tokenizer.json generate texts"
            yield Finding(f"sample {entry.name}", "note", words, "set `tokenizer` for files such as nanoGPT's ckpt.pt")
        else:
            yield Finding(f"sample {entry.name}", "ok", f"tokenizer {entry.tokenizer}")


def tokenizers(settings: Settings) -> Iterator[Finding]:
    """Are the ranks of tiktoken's encodings available offline? Checked in a separate process without network."""
    wanted = {entry.tokenizer or "gpt2" for entry in settings.eval if entry.tokenizer or _has_text(entry.data)}
    wanted |= {suite.tokenizer or "gpt2" for suite in settings.suite}
    wanted |= {entry.tokenizer for entry in settings.sample if entry.tokenizer not in (None, "auto")}
    names = sorted(name for name in wanted if not name.startswith("bytes") and os.sep not in name and "." not in name)
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9")
    python = os.fspath(settings.launch.python) if settings.launch.python else None
    try:
        answers = (
            list(run_data_command("tokenizer", names, (), python, given=nowhere | {"NO_PROXY": "", "no_proxy": ""}))
            if names
            else []
        )
    except EnvironmentProblem as problem:
        yield Finding("tokenizer", "warning", f"could not be checked: {problem.cause}", problem.hint)
        return
    for tokenizer in answers:
        if tokenizer["problem"] is None:
            yield Finding(
                "tokenizer", "ok", f"{tokenizer['tokenizer']}: {tokenizer['vocab_size']} ids, found on this machine"
            )
        elif "not known" in tokenizer["problem"]:
            yield Finding("tokenizer", "problem", tokenizer["problem"], tokenizer["hint"])
        else:
            words = f"the ranks of {tokenizer['tokenizer']} are not on this machine: the first job downloads them"
            fix = "offline: set TIKTOKEN_CACHE_DIR to their folder, or tokenizer to a .tiktoken or tokenizer.json file"
            yield Finding("tokenizer", "note", words, fix)


def _has_text(data: Sequence[str]) -> bool:
    return any(path.endswith(TEXT_ENDS) for path in data)


def _newest_mtime_s(folder: Path) -> float:
    newest = 0.0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return newest  # a file that vanished meanwhile
    return newest
