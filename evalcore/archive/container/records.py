"""Streaming records out of the zip with their CRC checked as the bytes pass. Owns no meaning of what it reads."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

from evalcore.archive.container.directory import Directory, Entry, data_offset
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError, shown

_CHUNK = 4 << 20


def read_entry(file: OpenFile, directory: Directory, entry: Entry) -> bytes:
    """The whole of a small record. Raises ArchiveError `corrupt` where its CRC does not match."""
    buffer = bytearray(entry.size)
    read_records(file, directory, [(entry, memoryview(buffer))])
    return bytes(buffer)


def read_records(
    file: OpenFile, directory: Directory, wanted: Iterable[tuple[Entry, memoryview | None]], *, progress=None
) -> int:
    """Fill each buffer with its record, checking sizes and CRCs; return the bytes read.

    A buffer is a writable memoryview of exactly the record's bytes; None only checks the record. progress is called
    with the bytes of each chunk. Raises ArchiveError `corrupt` naming the record: damaged, cut off, or unreadable.
    """
    total = 0
    for entry, buffer in sorted(wanted, key=lambda pair: pair[0].header):
        if buffer is not None and buffer.nbytes != entry.size:
            reason = f"record {shown(entry.name)} has {entry.size} bytes where {buffer.nbytes} are described"
            raise ArchiveError("shape", reason)
        offset = data_offset(file, entry, directory.start)
        crc = _stream(file, entry, offset, buffer, progress)
        if crc != entry.crc and not directory.unverified:
            reason = f"record {shown(entry.name)} is damaged: its CRC is {crc:08x}, not {entry.crc:08x}"
            raise ArchiveError("corrupt", reason, "copy or save the checkpoint again")
        total += entry.size
    return total


def _stream(file: OpenFile, entry: Entry, offset: int, buffer: memoryview | None, progress) -> int:
    view = buffer.cast("B") if buffer is not None and buffer.nbytes else None
    scratch = memoryview(bytearray(min(_CHUNK, entry.size))) if view is None else None
    done, crc = 0, 0
    while done < entry.size:
        length = min(_CHUNK, entry.size - done)
        part = scratch[:length] if scratch is not None else view[done : done + length]  # type: ignore[index]
        try:
            got = os.preadv(file.fd, [part], file.start + offset + done)
        except OSError as error:
            raise ArchiveError("corrupt", f"reading record {shown(entry.name)} failed: {error.strerror}") from error
        if got == 0:
            raise ArchiveError("corrupt", f"record {shown(entry.name)} is cut off", incomplete=True)
        crc = zlib.crc32(part[:got], crc)
        done += got
        if progress is not None:
            progress(got)
    return crc
