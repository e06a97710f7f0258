"""Discovery for `init`: checkpoints in a folder, validation data nearby, and the ckptwatch.toml for them.

Reads only; the caller writes the file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalcore.tasks.sniffing import sniff_task
from watcher.detect.folder import SeenFolder, folder_at, is_link_to_checkpoint, lacks_weights
from watcher.domain.checkpoint import (
    DEFAULT_INCLUDE,
    NOT_INCLUDED,
    WITHOUT_WEIGHTS,
    NamePattern,
    looks_like_a_checkpoint,
)
from watcher.domain.run_name import default_run_name
from watcher.domain.step import Step, choose_step, step_from_name
from watcher.settings.paths import plain_path
from watcher.settings.template import path_from, toml_value

WALK_MAX = 20_000
CONTEXT_KEYS = ("max_position_embeddings", "block_size", "n_positions", "sequence_len", "n_ctx", "max_seq_len")
DATA_SUFFIXES = (".npy", ".bin", ".txt", ".jsonl")
BYTEWISE_VOCABULARIES = (256, 257)  # ids that are bytes, perhaps with an end of text


@dataclass
class Discovery:
    """What a folder holds. include: the globs that find it. readable: facts of the newest file that could be read."""

    dir: Path
    include: tuple[str, ...] = DEFAULT_INCLUDE
    files: int = 0
    bytes: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    newest: str | None = None
    readable: dict[str, Any] | None = None
    trouble: str | None = None


def look_at(folder: Path) -> Discovery:
    """Find checkpoints in the folder, or else below it, and read the metadata of the newest."""
    discovery = Discovery(folder)
    if not folder.is_dir():
        discovery.trouble = "the folder does not exist yet; the daemon waits for it"
        return discovery
    names = _candidates(folder, NamePattern(DEFAULT_INCLUDE), discovery)
    if not names:
        below = tuple(f"**/{glob}" for glob in DEFAULT_INCLUDE)
        names = _candidates(folder, NamePattern(below), discovery)
        discovery.include = below if names else DEFAULT_INCLUDE
    discovery.files, discovery.bytes = len(names), sum(size for _, size, _ in names)
    names.sort(key=lambda entry: entry[2], reverse=True)
    for name, _, _ in names[:3]:  # the newest may be half written
        discovery.newest = discovery.newest or name
        discovery.readable, trouble = _read(folder, name)
        if discovery.readable is not None:
            break
        discovery.trouble = discovery.trouble or trouble
    return discovery


def count_ignored(folder: Path, pattern: NamePattern) -> dict[str, int]:
    """How many files and folders there are that a run with these globs does not take, by reason."""
    discovery = Discovery(folder)
    _candidates(folder, pattern, discovery)
    return discovery.ignored


def training_folders(folder: Path, pattern: NamePattern) -> list[Path]:
    """The folders directly in this one that the globs would find checkpoints in, were each of them a run's."""
    try:
        inside = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return []
    return [path for path in inside if _candidates(path, pattern, Discovery(path))]


def data_nearby(folders: Sequence[Path]) -> list[Path]:
    """Files that are named like validation data in these folders, the likeliest first; the items of tasks come last."""
    files: list[tuple[bool, int, str, Path]] = []
    for folder in dict.fromkeys(Path(plain_path(path)) for path in folders):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name.lower())
            rank = next((rank for rank, word in enumerate(("val", "valid", "test", "eval")) if word in stem), None)
            if rank is not None and suffix in DATA_SUFFIXES and entry.is_file():
                is_task = sniff_task(os.fspath(folder / entry.name)) is not None
                files.append((is_task, rank, entry.name, folder / entry.name))
    return [path for *_, path in sorted(files)]


def usual_places(folder: Path) -> list[Path]:
    """Where trainers keep validation data, near the working directory and the checkpoints."""
    bases = [Path(), folder, folder.absolute().parent]
    places = []
    for base in bases:
        inside = sorted(path for path in (base / "data").glob("*") if path.is_dir())
        places += [base, base / "data", base / "edu_fineweb10B", base / "fineweb10B", *inside]
    return places


def compose(discovery: Discovery, data: Sequence[Path], base: Path, kinds: dict[str, str]) -> str:
    """The text of ckptwatch.toml. base: the folder of the file. kinds: data path -> text, npy, ... where known."""
    lines = [
        "# ckptwatch: evaluate every checkpoint that the trainer saves. Start with:  ckptwatch run",
        "# Paths are relative to this file. Every key with its default:  ckptwatch config schema --toml",
        "",
        "[[run]]",
        f"name = {toml_value(default_run_name(plain_path(discovery.dir)))}",
        f"dir = {toml_value(path_from(discovery.dir, base))}   # {_count_words(discovery)}",
        f"include = {toml_value(discovery.include)}",
        "# settle_s = 2.0                # seconds without a change before a file is read",
        '# order = "newest"              # or "oldest", or "fill": coarse to fine through a backlog',
        "# every = 1                     # only steps that are a multiple of this, plus the newest",
        '# backfill = "all"              # or "latest", "none": which existing files to evaluate',
    ]
    names: list[str] = []
    for file in data:
        same = sum(name == file.stem or name.startswith(f"{file.stem}-") for name in names)
        names.append(f"{file.stem}-{same + 1}" if same else file.stem)
        lines += ["", "[[eval]]", f"name = {toml_value(names[-1])}", f"data = {toml_value(path_from(file, base))}"]
        lines += _measure_lines(discovery, kinds.get(str(file)))
    if not data:
        lines += [
            "",
            "# Validation data: set `data` to a file (.npy, .bin, .txt, .jsonl) and uncomment these three lines",
            "# [[eval]]",
        ]
        lines += ['# name = "val"', '# data = "val.npy"']
    lines += [
        "",
        "[launch]",
        'device = "auto"                 # "cpu" leaves the GPUs to the trainer',
        "nproc = 1                       # processes: one per GPU, or CPU ranks",
        '# when = "always"               # or "free", "after_training": while a trainer uses the same GPU',
        "",
        "[store]",
        'url = "ckptwatch.db"            # SQLite: sqlite3 -readonly ckptwatch.db "SELECT step, loss FROM results"',
        "",
        "# [web]",
        "# enabled = true                # the dashboard, at http://127.0.0.1:8745",
    ]
    return "\n".join(lines) + "\n"


def _measure_lines(discovery: Discovery, kind: str | None) -> list[str]:
    config = (discovery.readable or {}).get("config") or {}
    context = next((config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)), None)
    lines = [
        f"# seq_len = {min(context or 1024, 1024):<4}               # by default the model's context, at most 1024"
    ]
    if kind == "task":
        lines = ["# seq_len = 1024               # longest item in tokens; by default the model's context"]
    if kind in ("text", "jsonl", "task"):
        bytewise = isinstance(size := config.get("vocab_size"), int) and size in BYTEWISE_VOCABULARIES
        own = (discovery.readable or {}).get("own_tokenizer")
        name = '"bytes"' if bytewise else '"auto" ' if own else '"gpt2" '
        lines.append(
            f'tokenizer = {name}             # the tokenizer used in training: a tiktoken name, "bytes", or a file'
        )
    else:
        lines.append('# tokenizer = "gpt2"            # needed for bits per byte')
    if kind == "task":
        return [*lines, "# max_items = 500               # score only N items"]
    return [*lines, "# max_tokens = 1000000          # use only the first N tokens"]


def _count_words(discovery: Discovery) -> str:
    if discovery.files == 0:
        return "no checkpoint yet"
    return f"{discovery.files} checkpoint(s) when this was written"


def _candidates(folder: Path, pattern: NamePattern, discovery: Discovery) -> list[tuple[str, int, float]]:
    """(relative path, bytes, mtime) of every file and folder that the pattern takes; others are counted by reason."""
    names: list[tuple[str, int, float]] = []
    ignored: Counter[str] = Counter()
    for path, entry, seen in _entries(folder, pattern):
        if seen is not None:
            why = pattern.why_folder_ignored(path)
            why = f"{seen.kind.label} folder, {why}" if why == NOT_INCLUDED else why
        elif is_link_to_checkpoint(entry, entry.path):
            why = "a link to a checkpoint folder, which is not followed; `ckptwatch eval LINK` evaluates it"
        elif entry.is_dir(follow_symlinks=False):
            why = WITHOUT_WEIGHTS if lacks_weights(entry.path) else None
            if why is None:
                continue
        elif not entry.is_file() or (looks_like_a_checkpoint(entry.name) is None and not pattern.included(path)):
            continue
        else:
            why = pattern.why_ignored(path)
            if why is None and not pattern.included(path):
                why = f"{looks_like_a_checkpoint(entry.name)} file{' in subfolders' * ('/' in path)}, {NOT_INCLUDED}"
        if why is not None:
            ignored[why] += 1
        elif seen is not None:
            names.append((path, seen.fingerprint.size_bytes, seen.fingerprint.mtime_ns / 1e9))
        else:
            with suppress(OSError):  # rotated away meanwhile
                status = entry.stat(follow_symlinks=True)
                names.append((path, status.st_size, status.st_mtime))
    discovery.ignored = dict(ignored)
    return names


def _entries(folder: Path, pattern: NamePattern) -> Iterator[tuple[str, os.DirEntry[str], SeenFolder | None]]:
    """Every entry, and what a folder is that is recognised as a checkpoint; one level below where nothing recurses."""
    waiting, looked = [""], 0
    while waiting and looked < WALK_MAX:
        below = waiting.pop()
        try:
            entries = list(os.scandir(folder / below))
        except OSError:
            continue
        for entry in entries:
            looked += 1
            path, seen = (f"{below}/{entry.name}" if below else entry.name), None
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                with suppress(OSError):
                    seen = folder_at(entry.path)
                if seen is not None and pattern.prefers_file(path, seen.kind.main):
                    seen = None
                if seen is None and (pattern.recursive or not below):
                    waiting.append(path)
            yield path, entry, seen


def _read(folder: Path, name: str) -> tuple[dict[str, Any] | None, str | None]:
    from evalcore.archive import ArchiveError, summarise

    try:
        summary = summarise(str(folder / name))
    except ArchiveError as error:
        return None, f"{name}: {error.reason}"
    except OSError as error:
        return None, f"{name}: {error.strerror}"
    step = choose_step(Step(summary.step, summary.step_source or ""), step_from_name(name), summary.width)
    facts = {"checkpoint": name, "format": summary.format, "family": summary.family, "parameters": summary.parameters}
    facts |= {"own_tokenizer": os.path.isfile(folder / name / "tokenizer.json")}
    return facts | {"step": step.value, "step_source": step.source or None, "config": summary.config}, None
