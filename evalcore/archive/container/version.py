"""The small records with which torch.save describes its archive: version, byte order, alignment.

Each is refused where torch.load refuses it. Names are compared as torch does, without regard to case: an archive with
`BYTEORDER` is one whose values torch would swap.
"""

from __future__ import annotations

from evalcore.archive.container.directory import Directory
from evalcore.archive.container.records import read_entry
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError, shown

_NAMES = ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
_VERSIONS = range(1, 11)  # torch/csrc/jit: caffe2/serialize/versions.h
_MAX_BYTES = 64


def demand_readable_version(file: OpenFile, directory: Directory) -> None:
    """Raise ArchiveError where the archive is of another version or byte order than is read here."""
    for name in directory.entries:
        if name not in _NAMES and name.lower() in _NAMES:
            raise ArchiveError("corrupt", f"entry {shown(name)} is named almost as {name.lower()}")
    version = _small(file, directory, "version")
    if version is None:
        raise ArchiveError("corrupt", "the archive has no record of its version: torch.save did not write it")
    if not version.strip().isdigit() or int(version) not in _VERSIONS:
        reason = f"the archive is of version {shown(version.decode('latin-1'), 20)}, and 1 to {_VERSIONS[-1]} are known"
        raise ArchiveError("unsupported", reason, "save it with a version of torch that is no newer than this one's")
    order = _small(file, directory, "byteorder")
    if order == b"big":
        hint = "load it with torch on a little-endian machine and save it there"
        raise ArchiveError("unsupported", "the file was saved on a big-endian machine", hint)
    if order not in (None, b"little"):
        raise ArchiveError("corrupt", "the archive's byte order is neither little nor big")
    alignment = _small(file, directory, ".storage_alignment")
    if alignment is not None and not alignment.strip().isdigit():
        raise ArchiveError("corrupt", "the archive's storage alignment is not a number")
    identity = _small(file, directory, ".data/serialization_id") or b""
    if not identity.isascii():
        raise ArchiveError("corrupt", "the archive's serialization id is not text")


def _small(file: OpenFile, directory: Directory, name: str) -> bytes | None:
    entry = directory.entries.get(name)
    if entry is None:
        return None
    if entry.size > _MAX_BYTES:
        raise ArchiveError("corrupt", f"the record {name} has {entry.size} bytes")
    return read_entry(file, directory, entry)
