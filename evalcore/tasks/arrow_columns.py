"""Names of the top-level columns of an Arrow file or stream, from its schema message alone.

Owns as much of the FlatBuffers encoding as that message needs. Standard library only: the daemon looks at a file
without loading pyarrow. Never reads a value of a column.
"""

from __future__ import annotations

import struct

from evalcore.archive.signatures import ARROW_FILE

_SCHEMA_BYTES = 16 << 20
_CONTINUATION = b"\xff\xff\xff\xff"
_SCHEMA = 1  # of the union MessageHeader


def arrow_columns(path: str) -> list[str] | None:
    """Top-level column names in order, or None where the file is no readable Arrow. Raises OSError."""
    with open(path, "rb") as file:
        if file.read(len(ARROW_FILE)) == ARROW_FILE:
            file.seek(8)  # the magic number is padded; what follows is a stream
        else:
            file.seek(0)
        head = file.read(8)
        if len(head) < 8 or head[:4] != _CONTINUATION:
            return None
        length = int.from_bytes(head[4:], "little")
        if not 0 < length <= _SCHEMA_BYTES:
            return None
        message = file.read(length)
    try:
        return _names(message)
    except (IndexError, struct.error, UnicodeDecodeError):
        return None


def _names(message: bytes) -> list[str] | None:
    """Message: field 1 the type of its header, field 2 the header. Schema: field 1 the columns. Column: field 0."""
    root = _number(message, 0, "<I")
    kind, header = _field(message, root, 1), _field(message, root, 2)
    if kind is None or header is None or message[kind] != _SCHEMA:
        return None
    columns = _field(message, _followed(message, header), 1)
    if columns is None:
        return None
    start = _followed(message, columns)
    count = _number(message, start, "<I")
    if count > len(message):
        return None
    return [_name(message, _followed(message, start + 4 + 4 * at)) for at in range(count)]


def _name(message: bytes, table: int) -> str:
    at = _field(message, table, 0)
    if at is None:
        return ""
    start = _followed(message, at)
    length = _number(message, start, "<I")
    if start + 4 + length > len(message):
        raise IndexError("a name reaches beyond the message")
    return message[start + 4 : start + 4 + length].decode()


def _field(message: bytes, table: int, number: int) -> int | None:
    """Where field `number` of a table is stored; None where the table leaves it out."""
    layout = table - _number(message, table, "<i")
    if 4 + 2 * number >= _number(message, layout, "<H"):
        return None
    offset = _number(message, layout + 4 + 2 * number, "<H")
    return table + offset if offset else None


def _followed(message: bytes, at: int) -> int:
    return at + _number(message, at, "<I")


def _number(message: bytes, at: int, form: str) -> int:
    if at < 0:
        raise IndexError("an offset before the message")
    return struct.unpack_from(form, message, at)[0]
