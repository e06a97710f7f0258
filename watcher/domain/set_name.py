"""The name of an eval set without a `name`: the stem of its first file, or what is constant in its glob. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

#: What a file is called that says nothing about its text: the folder above it may.
_GENERIC = {"data", "shard", "shards", "part", "parts", "chunk", "tokens", "file"}
_WILDCARD = re.compile(r"\*+|\?|\[[^\]]*\]")
#: data-00000-of-00001, part_000003: the number of a shard begins with a zero
_SHARD = re.compile(r"[-_]?\d+[-_]of[-_]\d+$|[-_]?0\d{3,}$")
_SEPARATORS = re.compile(r"([-_ ])[-_ ]+")


def set_name(path: str, taken: Collection[str], suffix: str = "") -> str:
    """The shortest of the names of a file or glob that no other set has."""
    names = [f"{name}{suffix}" for name in (default_set_name(path), former_set_name(path))]
    return next((name for name in names if name not in taken), names[0])


def default_set_name(path: str) -> str:
    """`val_0000` for `val_0000.bin`, `fineweb_val` for `shards/fineweb_val_*.bin`, `wiki` for `wiki/*.npy`."""
    *folders, name = path.split("/")
    if not _WILDCARD.search(name):
        return former_set_name(path)
    stem = _cleaned(name.split(".")[0])
    if stem and stem.lower() not in _GENERIC:
        return stem
    plain = [folder for folder in folders if folder not in ("", ".", "..") and not _WILDCARD.search(folder)]
    folder = _cleaned(plain[-1]) if plain else ""
    return folder if folder and folder.lower() not in _GENERIC else stem or "val"


def former_set_name(path: str) -> str:
    """The default name up to 0.1.0: a set that has it in a database keeps it."""
    return path.rpartition("/")[2].replace("*", "").split(".")[0] or "val"


def _cleaned(stem: str) -> str:
    bare = _SHARD.sub("", _WILDCARD.sub("", stem).rstrip("-_ "))
    return _SEPARATORS.sub(r"\1", bare).strip("-_ ")
