"""What a checkpoint is to the daemon: its Fingerprint, and which paths count as checkpoints. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import NamedTuple

#: What a run takes by default: the names under which checkpoints are usually kept, and recognised folders.
DEFAULT_INCLUDE = ("*.pt", "*.pth", "*.ckpt", "*.safetensors", "*/")
#: Endings of files that may be checkpoints: those that `include` does not match are counted.
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
_DATA_STEMS = ("train", "val", "test")  # nanoGPT's data also ends with .bin
#: Files a trainer writes beside its model: optimizer, scheduler, random state, temporary names.
IGNORED_NAMES = (
    "optim.pt",
    "optim_*.pt",
    "optimizer*.pt*",
    "*optim_states.pt",
    "distrib_optim.pt",
    "scheduler*.pt*",
    "scaler.pt*",
    "rng*.pt*",
    "train.pt",
    "recipe_state*.pt",
    "adapter_model.pt",
    "meta.pt",
    "common.pt",
    "dataloader*.pt*",
    "training_args.bin",
    "*.tmp*",
    ".*",
    "*~",
    "*.part",
    "model-*-of-*.safetensors",
    "pytorch_model-*-of-*.bin",
    "adapter_model.safetensors",
)
#: Folders under these names are being written: the Trainer of transformers and others rename them when done.
IGNORED_FOLDERS = ("tmp-*", "tmp_*", "*-tmp", "*_tmp", "*.incomplete", "*.deleting")
#: OLMo-core's `train/rank0.pt`: one rank's trainer state, not a model.
IGNORED_PATHS = ("train/rank[0-9]*.pt", "*/train/rank[0-9]*.pt")


class Fingerprint(NamedTuple):
    """Identity of a file's version, from one stat."""

    dev: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


#: end of the reason for a name that no glob of `include` matches
NOT_INCLUDED = "not taken by `include`"
#: a folder such as `checkpoint-500` that is no checkpoint
WITHOUT_WEIGHTS = "folder of a step without weights: an optimizer's or trainer's state alone"


def looks_like_a_checkpoint(name: str) -> str | None:
    """The ending of a file that may be a checkpoint by it, else None."""
    if not name.endswith(SUFFIXES):
        return None
    stem, suffix = name.rsplit(".", 1)
    return None if suffix == "bin" and stem in _DATA_STEMS else f".{suffix}"


class NamePattern:
    """Which relative paths are checkpoints: include globs (`**` recurses), exclude globs, and the built-in ignores.

    A glob that ends with `/` matches recognised folders only, any other one files and recognised folders.
    """

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...] = ()) -> None:
        self.include = include
        self.recursive = any("/" in glob[:-1] for glob in include)
        #: folders are taken too: what changes in them is an event
        self.looks_below = self.recursive or any(glob.endswith("/") or "." not in glob for glob in include)
        self._include = _any_of(_glob_regex(glob) for glob in include if not glob.endswith("/"))
        self._include_folder = _any_of(_glob_regex(glob.rstrip("/")) for glob in include)
        self._exclude = _any_of(_glob_regex(glob.rstrip("/")) for glob in exclude) if exclude else None
        self._ignored_folder = _any_of(fnmatch.translate(glob) for glob in IGNORED_FOLDERS)
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

    def why_folder_ignored(self, path: str) -> str | None:
        """The reason why a recognised folder is not watched; None where it is."""
        name = path.rsplit("/", 1)[-1].lower()
        if self._ignored_folder.fullmatch(name):
            return "built-in ignore list: a folder that is still being written"
        if self._include_folder.fullmatch(path) is None:
            return NOT_INCLUDED
        return self.why_ignored(path)

    def prefers_file(self, folder: str, main: str) -> bool:
        """Whether the globs name the one file that holds a folder's model, and not the folder: `**/*.pt`."""
        return bool(main) and self.matches(f"{folder}/{main}") and self.why_folder_ignored(folder) == NOT_INCLUDED

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
    """A path as the database keeps it: text as it is, undecodable bytes (surrogates) as visible `\\udcXX` escapes.

    No two paths are stored alike: where an escape is needed, or the text looks like one, backslashes are doubled.
    """
    if path.isascii() and "\\udc" not in path:
        return path
    escaped = path.encode("utf-8", "backslashreplace").decode("utf-8")
    if escaped == path and "\\udc" not in path:
        return path
    return path.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode("utf-8")


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


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
