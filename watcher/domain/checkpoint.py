"""What a checkpoint is to the daemon: Fingerprint, Step and the step that a name tells, which paths count. Pure."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import NamedTuple

#: Files a trainer writes beside its model: optimizer, scheduler, random state, temporary names.
IGNORED_NAMES = (
    "optim.pt",
    "optim_*.pt",
    "optimizer*.pt",
    "*optim_states.pt",
    "distrib_optim.pt",
    "scheduler*.pt",
    "scaler.pt",
    "rng*.pt*",
    "train.pt",
    "recipe_state*.pt",
    "adapter_model.pt",
    "meta.pt",
    "common.pt",
    "dataloader*.pt",
    "training_args.bin",
    "*.tmp*",
    ".*",
    "*~",
    "*.part",
)
#: OLMo-core's `train/rank0.pt`: one rank's trainer state, not a model.
IGNORED_PATHS = ("train/rank[0-9]*.pt", "*/train/rank[0-9]*.pt")

_NAMED_STEPS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:global[-_]?)?step[-_=]?(\d+)",
        r"iter(?:ation)?[-_=]?(\d+)",
        r"(?<![a-z])ba(\d+)",
        r"checkpoint[-_=](\d+)",
        r"(?<![a-z])(?:ckpt|model|state|it)[-_=](\d+)",
    )
)
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)", re.DOTALL)
STEP_MAX = 2**63 - 1


class Fingerprint(NamedTuple):
    """What one stat tells of a file's version."""

    dev: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Step:
    """A training step and where it was read (`payload:iter_num`, `name`, `name:last number`); None "" if unknown."""

    value: int | None
    source: str


def step_from_name(path: str) -> Step:
    """The step that a path tells: file name before folders, named patterns before the stem's last number."""
    parts = [part for part in path.split("/") if part]
    for part in reversed(parts):
        for pattern in _NAMED_STEPS:
            if found := pattern.findall(part):
                return _bounded(found[-1], "name")
    stem = parts[-1].rsplit(".", 1)[0] if parts else ""
    if last := _LAST_NUMBER.search(stem):
        return _bounded(last.group(1), "name:last number")
    return Step(None, "")


def choose_step(payload: Step, name: Step) -> Step:
    """The payload's step stands before the name's."""
    return payload if payload.value is not None else name


#: A checkpoint of Hugging Face's kind is a folder, and may be written file by file for minutes: it is not watched.
HUGGING_FACE = "Hugging Face: not watched, `ckptwatch eval FOLDER` evaluates it"
HUGGING_FACE_FILES = ("model.safetensors", "model.safetensors.index.json")


class NamePattern:
    """Which relative paths are checkpoints: include globs (`**` recurses), exclude globs, and the built-in ignores."""

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...] = ()) -> None:
        self.include = include
        self.recursive = any("/" in glob for glob in include)
        self._include = _any_of(_glob_regex(glob) for glob in include)
        self._exclude = _any_of(_glob_regex(glob) for glob in exclude) if exclude else None
        # Asked for every file of every scan: a regex that begins with `.*` would cost more than the file's stat.
        starred = [glob[1:] for glob in IGNORED_NAMES if glob.startswith("*")]
        self._ignored_ends = tuple(rest for rest in starred if not rest.endswith("*"))
        self._ignored_parts = tuple(rest[:-1] for rest in starred if rest.endswith("*"))
        self._ignored_name = _any_of(fnmatch.translate(glob) for glob in IGNORED_NAMES if not glob.startswith("*"))
        self._ignored_path = _any_of(fnmatch.translate(glob) for glob in IGNORED_PATHS)

    def matches(self, path: str) -> bool:
        return self.included(path) and self.why_ignored(path) is None

    def included(self, path: str) -> bool:
        return self._include.fullmatch(path) is not None

    def why_ignored(self, path: str) -> str | None:
        """The reason why an included path is not watched; None where it is."""
        name = path.rsplit("/", 1)[-1]
        aside: object = name.endswith(self._ignored_ends) or any(part in name for part in self._ignored_parts)
        aside = aside or self._ignored_name.fullmatch(name) or ("/" in path and self._ignored_path.fullmatch(path))
        if aside:
            return "built-in ignore list: not a model's file"
        if self._exclude is not None and self._exclude.fullmatch(path):
            return "excluded by the run's `exclude`"
        return None


def printable(path: str) -> str:
    """A path fit for a terminal or a log: control characters, bidi marks and undecodable bytes are escaped."""
    if path.isprintable():
        return path
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in path)


def stored(path: str) -> str:
    """A path as the database keeps it: text as it is, undecodable bytes (surrogates) as visible `\\udcXX` escapes."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode("utf-8")


def _bounded(digits: str, source: str) -> Step:
    value = int(digits[:20])
    return Step(value, source) if value <= STEP_MAX else Step(None, "")


def _any_of(patterns) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def _glob_regex(glob: str) -> str:
    """Shell glob as a regex over a relative path: `*` stays within a folder, `**/` is any number of folders."""
    out, position = "", 0
    while position < len(glob):
        if glob.startswith("**/", position):
            out, position = out + r"(?:[^/]+/)*", position + 3
        elif glob.startswith("**", position):
            out, position = out + r"[\s\S]*", position + 2
        elif glob[position] == "*":
            out, position = out + "[^/]*", position + 1
        elif glob[position] == "?":
            out, position = out + "[^/]", position + 1
        elif glob[position] == "[" and (end := glob.find("]", position + 2)) > 0:
            body = glob[position + 1 : end].replace("\\", r"\\")
            out, position = out + "[" + ("^" + body[1:] if body.startswith("!") else body) + "]", end + 1
        else:
            out, position = out + re.escape(glob[position]), position + 1
    return out
