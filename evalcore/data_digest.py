"""The identity of validation data: digest of the content, stamp that says when to take it again, kind by name.

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable

from evalcore.archive.signatures import MEGATRON_INDEX

#: What a file can be declared to be (`format`), and the types of ids in a token file without a header.
FORMATS = ("auto", "text", "jsonl", "json", "parquet", "arrow", "npy", "bin", "raw")
TOKEN_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64")
#: Stamp of a file that is not there or cannot be looked at.
ABSENT = "absent"
_KINDS = (
    *((suffix, "text") for suffix in (".txt", ".text", ".md", ".rst")),
    *((suffix, "jsonl") for suffix in (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")),
    *((suffix, "table") for suffix in (".csv", ".tsv")),
    *((f".{kind}", kind) for kind in ("json", "parquet", "arrow", "npy", "bin")),
)


def digest_files(paths: Iterable[str], report: Callable[[int], None] | None = None) -> str:
    """`sha256:...` over size and bytes of each file, in order. report(bytes so far): as it goes. Raises OSError."""
    whole, done = hashlib.sha256(), 0
    for path in paths:
        with open(path, "rb") as file:
            whole.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while chunk := file.read(1 << 22):
                whole.update(chunk)
                done += len(chunk)
                if report is not None:
                    report(done)
    return "sha256:" + whole.hexdigest()


def each_once(paths: Iterable[str]) -> list[str]:
    """The paths without those of a file that an earlier one names, by the same name, another or a link to it.

    Patterns overlap: a file that two of them match would count twice.
    """
    files: dict[object, str] = {}
    for path in paths:
        try:
            status = os.stat(path)
            files.setdefault((status.st_dev, status.st_ino), path)
        except OSError:
            files.setdefault(path, path)  # its reader says what is wrong with it
    return list(files.values())


def files_of_dataset(folder: str) -> list[str] | None:
    """The Arrow files of a folder that `save_to_disk` of Hugging Face datasets wrote, in order; None for any other."""
    try:
        with open(os.path.join(folder, "state.json"), "rb") as file:
            names = [entry["filename"] for entry in json.load(file)["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    plain = all(isinstance(name, str) and name and name == os.path.basename(name) for name in names)
    return [os.path.join(folder, name) for name in names] if names and plain else None


def index_name(path: str) -> str | None:
    """The name that the index of a Megatron data set has beside its `.bin`; None for any other file."""
    return f"{path[:-4]}.idx" if path.lower().endswith(".bin") else None


def index_beside(path: str) -> str | None:
    """The index of a Megatron data set beside its `.bin`, recognised by its first bytes; None without one."""
    index = index_name(path)
    if index is None or not os.path.isfile(index):
        return None
    try:
        with open(index, "rb") as file:
            return index if file.read(len(MEGATRON_INDEX)) == MEGATRON_INDEX else None
    except OSError:
        return index  # its reader reports why it cannot be read


def stamp(path: str) -> str:
    """`size:mtime_ns:ctime_ns:inode` of a file, or ABSENT; with another stamp, its content may be another.

    ctime_ns: a file rewritten in place with its old mtime (`cp -p`, rsync, `touch -r`) keeps every other field.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ABSENT
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def kind_of_name(name: str, declared: str = "auto") -> str:
    """text | jsonl | json | table | npy | bin | other: the rule by which a file is read, as far as its name decides.

    declared: the `format` setting, which overrules the name.
    """
    if declared != "auto":
        return declared
    return next((kind for suffix, kind in _KINDS if name.lower().endswith(suffix)), "other")
