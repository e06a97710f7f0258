"""Decompression of files frame by frame: a frame that is cut off is an error, which zstandard's reader passes over.

Owns the end of the data. Standard library only; zstandard, or else pyarrow, is loaded for a `.zst` file alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any

#: Input that is decompressed at a time: a block of a few bytes can stand for 128 KiB.
_PIECE_BYTES = 1024


class NoZstandard(ImportError):
    """Neither zstandard nor pyarrow is installed."""


class FrameReader(io.RawIOBase):
    """The content of one frame after another. new_decompressor(): with decompress, eof and unused_data, as zlib's.

    Raises OSError for damage (`error` of the decompressor), EOFError where the last frame does not end.
    """

    def __init__(self, raw: IO[bytes], new_decompressor: Callable[[], Any], error: type[Exception]) -> None:
        self._raw, self._new, self._error = raw, new_decompressor, error
        self._frame: Any = None
        self._input = self._content = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            piece = self._input or self._raw.read(_PIECE_BYTES)
            if not piece:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("the compressed data ends before its frame does")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = self._new()
            try:
                self._content = self._frame.decompress(piece)
            except self._error as error:
                raise OSError(f"the compressed data is damaged: {error}") from None
            self._input = self._frame.unused_data if self._frame.eof else b""
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size


def open_zstandard(raw: IO[bytes]) -> Any:
    """The decompressed bytes of a `.zst` file as a binary file. Raises NoZstandard."""
    try:
        import zstandard
    except ImportError:
        pass
    else:
        reader = FrameReader(raw, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)
        return io.BufferedReader(reader, 1 << 17)
    try:
        import pyarrow
    except ImportError:
        raise NoZstandard from None
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")  # the extra `parquet` brings it
