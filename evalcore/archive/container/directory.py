"""The zip directory of a .pt: entries, their place and CRC, checked against the file. Owns no record's content.

Stricter than zip readers must be, because torch.save writes one shape only: nothing before the first entry, nothing
after the end record, one top folder, STORED entries that do not overlap. Layout: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import LIMITS, ArchiveError, shown

_END = struct.Struct("<4sHHHHIIH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: name below the top folder, its size in the file, CRC-32, and where its local header starts."""

    name: str
    size: int
    crc: int
    header: int
    full_name: bytes
    compressed: bool = False


@dataclass(frozen=True)
class Directory:
    """All entries of one archive. unverified: every CRC is 0, as torch writes under set_crc32_options(False)."""

    top: str
    entries: dict[str, Entry]
    unverified: bool
    start: int

    def digest(self, file: OpenFile) -> str:
        """`sha256:...` over name, size and CRC of each entry; over the whole file where there are no CRCs."""
        if self.unverified:
            return digest_of_bytes(file)
        state = hashlib.sha256(b"ckptwatch zip entries 1\n")
        for name in sorted(self.entries):
            entry = self.entries[name]
            coded = name.encode("utf-8", "surrogateescape")
            state.update(struct.pack("<IQI", len(coded), entry.size, entry.crc) + coded)
        return "sha256:" + state.hexdigest()


def digest_of_bytes(file: OpenFile) -> str:
    """`sha256:...` over the file's bytes."""
    state = hashlib.sha256()
    offset = 0
    while chunk := file.read(offset, 1 << 22):
        state.update(chunk)
        offset += len(chunk)
        file.report(offset, file.size)
    return "sha256:" + state.hexdigest()


def read_directory(file: OpenFile) -> Directory:
    """Parse and check the directory. Raises ArchiveError `corrupt`; compressed entries are for `demand_stored`."""
    start, size, count = _find_end(file)
    if count > LIMITS.entries:
        raise ArchiveError("unsupported", f"the archive has {count} entries, more than {LIMITS.entries}")
    if size < count * _CENTRAL.size or size > count * (_CENTRAL.size + 4096) + 64:
        raise ArchiveError("corrupt", f"the directory has {size} bytes, which {count} entries cannot have")
    data = file.read(start, size)
    raw = _parse(data, count)
    entries, top = _under_one_top(raw)
    _demand_no_overlap(raw, start)
    filled = [entry for entry in raw if entry.size]
    unverified = bool(filled) and all(entry.crc == 0 for entry in filled)
    return Directory(top, entries, unverified, start)


def demand_stored(directory: Directory) -> None:
    """Raise ArchiveError `unsafe` where an entry is compressed: torch.save never does, and it hides the real size."""
    for entry in directory.entries.values():
        if entry.compressed:
            hint = "save it again with torch.save, which never compresses"
            reason = f"entry {shown(entry.name)} is compressed: its real size is hidden"
            raise ArchiveError("unsafe", reason, hint)


def data_offset(file: OpenFile, entry: Entry, limit: int) -> int:
    """Where the entry's bytes start; its local header must agree with the directory. limit: start of the directory."""
    head = file.read(entry.header, _LOCAL.size + len(entry.full_name))
    if len(head) < _LOCAL.size:
        raise ArchiveError("corrupt", f"the header of {shown(entry.name)} is cut off", incomplete=True)
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(head)
    if signature != b"PK\3\4" or name_length != len(entry.full_name) or head[_LOCAL.size :] != entry.full_name:
        raise ArchiveError("corrupt", f"the header of {shown(entry.name)} does not agree with the directory")
    if method != 0 or flags & 1:
        raise ArchiveError("unsafe", f"the header of {shown(entry.name)} says compressed, the directory does not")
    offset = entry.header + _LOCAL.size + name_length + extra_length
    if offset + entry.size > limit:
        raise ArchiveError("corrupt", f"{shown(entry.name)} reaches beyond its place in the file")
    return offset


def _find_end(file: OpenFile) -> tuple[int, int, int]:
    """(start, size, entry count) of the central directory."""
    if file.size < _END.size:
        raise ArchiveError("corrupt", f"the file ends after {file.size} bytes", incomplete=True)
    tail_size = min(file.size, _END.size + _LOCATOR.size + _END64.size)
    tail = file.read(file.size - tail_size, tail_size)
    end_at = tail_size - _END.size
    if len(tail) < tail_size or tail[end_at : end_at + 4] != b"PK\5\6":
        reason = "the zip has no end record at its end: it is cut off, or still being written"
        raise ArchiveError("corrupt", reason, incomplete=True)
    _, disk, _, count_here, count, size, start, comment = _END.unpack_from(tail, end_at)
    if comment or disk not in (0, _MAX16) or count_here != count:
        raise ArchiveError("corrupt", "the zip's end record is not one that torch.save writes")
    after = file.size - _END.size
    locator_at = end_at - _LOCATOR.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        start, size, count, after = _find_end64(file, tail[locator_at:end_at], (start, size, count))
    elif _MAX32 in (start, size) or count == _MAX16:
        raise ArchiveError("corrupt", "the zip64 end record is missing")
    if start + size > after:
        raise ArchiveError("corrupt", "the zip's directory lies beyond the end of the file", incomplete=True)
    if start + size != after:
        raise ArchiveError("corrupt", "there are foreign bytes before or inside the zip")
    return start, size, count


def _find_end64(file: OpenFile, locator: bytes, end: tuple[int, int, int]) -> tuple[int, int, int, int]:
    _, _, at, _ = _LOCATOR.unpack(locator)
    if at + _END64.size != file.size - _END.size - _LOCATOR.size:
        raise ArchiveError("corrupt", "the zip64 locator points to the wrong place")
    signature, _, _, _, disk, _, count_here, count, size, start = _END64.unpack(file.read(at, _END64.size))
    if signature != b"PK\6\6" or disk or count_here != count:
        raise ArchiveError("corrupt", "the zip64 end record is damaged")
    for short, long, cap in zip(end, (start, size, count), (_MAX32, _MAX32, _MAX16), strict=True):
        if short not in (long, cap):
            raise ArchiveError("corrupt", "the zip's two end records disagree")
    return start, size, count, at


def _parse(data: bytes, count: int) -> list[Entry]:
    entries = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise ArchiveError("corrupt", "the zip's directory is damaged")
        fields = _CENTRAL.unpack_from(data, at)
        flags, method, crc, packed, size, name_length, extra_length, comment_length = (
            *fields[3:5], *fields[7:10], *fields[10:13],
        )  # fmt: skip
        header = fields[16]
        name_at = at + _CENTRAL.size
        name = data[name_at : name_at + name_length]
        extra = data[name_at + name_length : name_at + name_length + extra_length]
        at = name_at + name_length + extra_length + comment_length
        if at > len(data) or not name:
            raise ArchiveError("corrupt", "the zip's directory is damaged")
        text = name.decode("utf-8", "surrogateescape")
        if flags & 1:
            raise ArchiveError("corrupt", f"entry {shown(text)} is encrypted")
        size, packed, header = _widen(extra, size, packed, header)
        if size != packed and method == 0:
            raise ArchiveError("corrupt", f"entry {shown(text)} has two sizes, {size} and {packed} bytes")
        entries.append(Entry(text, packed, crc, header, name, method != 0))
    if at != len(data):
        raise ArchiveError("corrupt", "the zip's directory is longer than its entries")
    return entries


def _widen(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Replace what does not fit in 32 bits by the zip64 extra field (tag 1)."""
    if _MAX32 not in (size, packed, header):
        return size, packed, header
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            wide = [int.from_bytes(extra[i : i + 8], "little") for i in range(at + 4, at + 4 + length, 8)]
            values = [wide.pop(0) if v == _MAX32 and wide else v for v in (size, packed, header)]
            return values[0], values[1], values[2]
        at += 4 + length
    raise ArchiveError("corrupt", "a zip64 entry lacks its sizes")


def _under_one_top(raw: list[Entry]) -> tuple[dict[str, Entry], str]:
    entries: dict[str, Entry] = {}
    folded: set[str] = set()
    top: str | None = None
    for entry in raw:
        folder, slash, name = entry.name.partition("/")
        if not slash or not folder or not name or ".." in name.split("/") or "\0" in name:
            raise ArchiveError("corrupt", f"entry {shown(entry.name)} lies outside the archive's top folder")
        if top is not None and folder != top:
            raise ArchiveError("corrupt", f"the archive has two top folders, {shown(top)} and {shown(folder)}")
        if name in entries:
            raise ArchiveError("corrupt", f"the archive has two entries named {shown(name)}")
        if name.lower() in folded:  # torch finds entries without regard to case, and would take either
            raise ArchiveError("corrupt", f"the archive has two entries whose names differ by case: {shown(name)}")
        folded.add(name.lower())
        top = folder
        entries[name] = Entry(name, entry.size, entry.crc, entry.header, entry.full_name, entry.compressed)
    if top is None:
        raise ArchiveError("corrupt", "the archive is empty")
    return entries, top


def _demand_no_overlap(raw: list[Entry], directory_start: int) -> None:
    """Entries side by side, the first at byte 0: so that sizes are bounded by the file, and nothing is prepended."""
    at = 0
    for entry in sorted(raw, key=lambda e: e.header):
        if entry.header < at:
            raise ArchiveError("corrupt", f"entry {shown(entry.name)} overlaps another")
        if at == 0 and entry.header != 0:
            raise ArchiveError("corrupt", "there are foreign bytes before the zip")
        at = entry.header + _LOCAL.size + len(entry.full_name) + entry.size
    if at > directory_start:
        raise ArchiveError("corrupt", "the last entry reaches into the zip's directory", incomplete=True)
