"""Names of the top-level columns of a Parquet file, from its footer alone.

Owns as much of Thrift's compact protocol as the footer's schema needs. Standard library only: the daemon looks at a
file without loading pyarrow. Never reads a value of a column.
"""

from __future__ import annotations

import os

from evalcore.archive.signatures import PARQUET

_FOOTER_BYTES = 64 << 20
_I8, _BINARY, _LIST, _SET, _MAP, _STRUCT = 3, 8, 9, 10, 11, 12


def parquet_columns(path: str) -> list[str] | None:
    """Top-level column names in order, or None where the file is no readable Parquet. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 12 or file.read(4) != PARQUET:
            return None
        file.seek(size - 8)
        length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic != PARQUET or length > min(size - 12, _FOOTER_BYTES):
            return None
        file.seek(size - 8 - length)
        footer = file.read(length)
    try:
        return _top_level(_schema(_Reader(footer)))
    except (IndexError, UnicodeDecodeError, RecursionError):
        return None


def _schema(reader: _Reader) -> list[tuple[str, int]]:
    """(name, number of children) of each element, depth first: field 2 of FileMetaData."""
    for field, kind in reader.fields():
        if field == 2 and kind == _LIST:
            return [_element(reader) for _ in range(reader.list_header()[0])]
        reader.skip(kind)
    return []


def _element(reader: _Reader) -> tuple[str, int]:
    name, children = "", 0
    for field, kind in reader.fields():
        if field == 4:
            name = reader.binary().decode()
        elif field == 5:
            children = reader.varint() >> 1  # zigzag of a number that is never negative
        else:
            reader.skip(kind)
    return name, children


def _top_level(schema: list[tuple[str, int]]) -> list[str]:
    names: list[str] = []
    at = 1  # the first element is the root
    while at < len(schema):
        names.append(schema[at][0])
        waiting = 1
        while waiting:  # step over the element with all that is below it
            waiting += schema[at][1] - 1
            at += 1
    return names


class _Reader:
    """A cursor over Thrift's compact protocol; IndexError at the end of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def binary(self) -> bytes:
        length = self.varint()
        if self._at + length > len(self._data):
            raise IndexError("a text reaches beyond the footer")
        self._at += length
        return self._data[self._at - length : self._at]

    def list_header(self) -> tuple[int, int]:
        """(length, type of the elements)."""
        head = self.byte()
        return (self.varint() if head >> 4 == 15 else head >> 4), head & 15

    def fields(self):  # type: ignore[no-untyped-def]
        """(field id, type) of each field of a struct; the caller reads or skips the value in between."""
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.varint() >> 1
            yield field, head & 15

    def skip(self, kind: int) -> None:
        if kind == _I8:
            self.byte()
        elif 4 <= kind <= 6:  # i16, i32, i64
            self.varint()
        elif kind == 7:  # double
            self._at += 8
        elif kind == _BINARY:
            self.binary()
        elif kind in (_LIST, _SET):
            length, element = self.list_header()
            for _ in range(length):
                self.byte() if element <= 2 else self.skip(element)
        elif kind == _MAP:
            if length := self.varint():
                kinds = self.byte()
                for _ in range(length):
                    self.skip(kinds >> 4)
                    self.skip(kinds & 15)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
