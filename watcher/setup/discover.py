"""Discovery for `init`: checkpoints in a folder, the trainings they belong to, validation data nearby. Reads only."""

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
from watcher.domain.step import Step, choose_step, step_from_name
from watcher.settings.paths import plain_path

WALK_MAX = 20_000
DATA_SUFFIXES = (".npy", ".bin", ".txt", ".jsonl")


@dataclass(frozen=True)
class Training:
    """A folder in which one trainer saves: a run of its own. include: the globs that find its checkpoints."""

    dir: Path
    include: tuple[str, ...]
    files: int


@dataclass
class Discovery:
    """What a folder holds. include: the globs that find it. readable: facts of the newest file that could be read.

    trainings: one for the folder itself, or several that were found below it.
    """

    dir: Path
    include: tuple[str, ...] = DEFAULT_INCLUDE
    trainings: list[Training] = field(default_factory=list)
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
        discovery.trainings = [Training(folder, DEFAULT_INCLUDE, 0)]
        return discovery
    names = _candidates(folder, NamePattern(DEFAULT_INCLUDE), discovery)
    if not names:
        below = _below(DEFAULT_INCLUDE)
        names = _candidates(folder, NamePattern(below), discovery)
        discovery.include = below if names else DEFAULT_INCLUDE
        discovery.trainings = _by_training(folder, [name for name, *_ in names], DEFAULT_INCLUDE)
    if len(discovery.trainings) < 2:
        discovery.trainings = [Training(folder, discovery.include, len(names))]
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


def trainings_below(folder: Path, include: tuple[str, ...]) -> list[Training]:
    """The folders below this one that the globs would find checkpoints in, were each of them a run's."""
    names = _candidates(folder, NamePattern(_below(include)), Discovery(folder))
    return [one for one in _by_training(folder, [name for name, *_ in names], include) if one.dir != folder]


def _below(include: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(glob if glob.startswith("**/") else f"**/{glob}" for glob in include)


def _by_training(folder: Path, names: Sequence[str], include: tuple[str, ...]) -> list[Training]:
    """Checkpoints below a folder by the folder that holds them; a folder of one step belongs to the one above it."""
    counts: Counter[str] = Counter()
    recursive: set[str] = set()
    for name in names:
        inside = above = os.path.dirname(name)
        while step_from_name(f"{os.path.basename(above)}/x").value is not None:  # exp1/step_100/rank0.pt
            above = os.path.dirname(above)
        counts[above] += 1
        if above != inside:
            recursive.add(above)
    for inside in sorted(counts):  # what `**` of one run finds belongs to no other
        above = next((above for above in sorted(recursive) if above != inside and _is_below(inside, above)), inside)
        if above != inside:
            counts[above] += counts.pop(inside)
    return [
        Training(folder / inside, _below(include) if inside in recursive else include, count)
        for inside, count in sorted(counts.items())
    ]


def _is_below(path: str, folder: str) -> bool:
    return folder == "" or path.startswith(f"{folder}/")


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
