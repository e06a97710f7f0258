"""Evidence of the token type in the bytes of a token file without a header: uint16 is assumed only without any.

Owns the patterns. Reads the whole file up to 64 MiB, evenly spaced blocks of a larger one; never decides for the user.
"""

from __future__ import annotations

import codecs
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_WHOLE_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
_MIN_TEXT_BYTES = 16
_MIN_UINT8_BYTES = 64
#: High halves below this are read as those of 32-bit ids: no vocabulary reaches 2**20.
_HIGH_HALVES = 16
_SPREAD = 256
_FLOAT_BYTES = 1 << 16
_MIN_FLOATS = 16
_MIN_BIG_ENDIAN = 256
_DISTINCT_FLOATS = 4
_ID_MAX = 1 << 20
_CONTROL = np.array([(byte < 32 and byte not in (9, 10, 12, 13, 27)) or byte == 127 for byte in range(256)])


@dataclass(frozen=True)
class Evidence:
    """token_dtype: the type that the bytes point to, None where they are no tokens. reason: a clause for a sentence."""

    token_dtype: str | None
    reason: str


def against_uint16(path: Path, size: int) -> Evidence | None:
    """Evidence against reading these bytes as little-endian uint16 ids, or None. Raises OSError."""
    blocks = _sample(path, size)
    if all(not block.any() for block in blocks):
        return None  # never filled: refused for every type when the stream is opened
    if size >= _MIN_TEXT_BYTES and all(_is_text(block, number > 0) for number, block in enumerate(blocks)):
        return Evidence(None, "its bytes are UTF-8 text")
    header = _counted_header(blocks[0], size) or _empty_header(blocks[0])
    if header is not None:
        return header
    if size % 2:
        return Evidence("uint8" if _is_bytes(blocks) else None, f"{size} bytes are an odd number")
    floats = _floats(blocks[0][:_FLOAT_BYTES], size)
    if floats is not None:
        return floats
    halves = np.concatenate([block[: len(block) // 2 * 2].view("<u2") for block in blocks])
    wide = _wide(halves, size)
    if wide is not None:
        return wide
    if len(halves) >= 4 and not (halves & 0xFF).any():
        return Evidence(None, "every low byte is zero, as in big-endian uint16")
    if len(halves) >= _MIN_BIG_ENDIAN and ((halves & 0xFF) == 0).mean() > 0.1 and (halves < 0x100).mean() < 0.02:
        return Evidence(None, "many low bytes and hardly any high byte are zero, as in big-endian uint16")
    if _is_bytes(blocks):
        return Evidence("uint8", "low and high bytes hold the same few values, as in uint8")
    return None


def _sample(path: Path, size: int) -> list[np.ndarray]:
    """uint8 arrays, each beginning at a multiple of 8 bytes."""
    if size <= _WHOLE_BYTES:
        return [np.fromfile(path, dtype=np.uint8)]
    count = _WHOLE_BYTES // _BLOCK_BYTES
    starts = [(size - _BLOCK_BYTES) * i // (count - 1) // 8 * 8 for i in range(count)]
    return [np.fromfile(path, dtype=np.uint8, offset=start, count=_BLOCK_BYTES) for start in starts]


def _is_text(block: np.ndarray, cut: bool) -> bool:
    """UTF-8 without control characters. cut: the block may begin within a character."""
    if _CONTROL[block[:4096]].any() or _CONTROL[block].any():  # the first look decides for nearly every token file
        return False
    content = block.tobytes()
    if cut:
        content = content.lstrip(bytes(range(0x80, 0xC0))) if content[:1] and content[0] & 0xC0 == 0x80 else content
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def _counted_header(block: np.ndarray, size: int) -> Evidence | None:
    """A header that holds the number of the tokens after it: of 4, 8, 16 or 256 * 4 bytes."""
    for header in (4, 8, 16, 1024):
        if size - header < 128 or len(block) < header:
            continue
        numbers = block[: min(header, 64)].view("<i4")
        for width in (2, 4):
            count = (size - header) // width
            if (size - header) % width == 0 and count in numbers.tolist():
                return Evidence(None, f"its first {header} bytes count the {count} tokens after them, as a header does")
    return None


def _empty_header(block: np.ndarray) -> Evidence | None:
    """A header of a few numbers and zeros up to a round number of bytes, whatever its numbers count."""
    for header in (256, 512, 1024, 2048, 4096):
        after = block[header : 2 * header].view("<u2") if len(block) >= 2 * header else block[:0]
        if len(after) and not block[32:header].any() and block[:4].any() and float((after == 0).mean()) < 0.2:
            return Evidence(None, f"its first {header} bytes are a few numbers and zeros, as a header is")
    return None


def _floats(block: np.ndarray, size: int) -> Evidence | None:
    """Floating-point numbers: ids saved as floats are whole in their type; weights, logits and embeddings are small."""
    for width, order in itertools.product((8, 4, 2), "<>"):
        values = block[: len(block) // width * width].view(f"{order}f{width}")
        if size % width or len(values) < _MIN_FLOATS or len(np.unique(values)) < _DISTINCT_FLOATS:
            continue
        name = f"{'big-endian ' * (order == '>')}float{8 * width}"
        with np.errstate(invalid="ignore"):
            is_whole = bool((values == np.floor(values)).all())
            magnitude = np.abs(values)
        if is_whole and 0 <= float(values.min()) < 1024 and float(values.max()) < _ID_MAX:
            return Evidence(None, f"its bytes are whole numbers as {name}: ids saved as floating-point")
        low, high = (1e-6, 1e4) if width > 2 else (1e-3, 100)
        is_usual = float(((magnitude > low) & (magnitude < high)).mean()) > 0.98
        if is_usual and (width > 2 or float(np.signbit(values).mean()) > 0.1):
            return Evidence(None, f"its bytes are ordinary numbers as {name}, and no ids")
    return None


def _wide(halves: np.ndarray, size: int) -> Evidence | None:
    """32-bit or 64-bit ids: their upper halves are zero, or small where the lower ones range widely."""
    if size % 4 or len(halves) < 2:
        return None
    signed = (halves[1::2] == 0xFFFF) & (halves[0 : len(halves) // 2 * 2 : 2] >= 0x8000)  # a small negative int32
    high = np.where(signed, 0, halves[1::2])
    low = halves[0 : len(high) * 2 : 2]
    if not low.any():
        return Evidence(None, "every first uint16 of two is zero, as in big-endian uint32")
    top = int(high.max())
    if top and not (top < _HIGH_HALVES and int(low.max()) >= _SPREAD and len(high) >= 16):
        return None
    upper = halves[: len(halves) // 4 * 4].reshape(-1, 4)[:, 2:]
    if size % 8 == 0 and len(halves) >= 8 and not np.where(upper == 0xFFFF, 0, upper).any():
        return Evidence("int64", "three uint16 values of four are zero, as in int64")
    if top:
        return Evidence("uint32", f"every second uint16 value is below {top + 1}, as in uint32 with large ids")
    return Evidence("uint32", "every second uint16 value is zero, as in uint32 or int32")


def _is_bytes(blocks: list[np.ndarray]) -> bool:
    """Whether low and high bytes are drawn from the same values below 128, as single-byte ids are and uint16 never."""
    data = blocks[0]
    if sum(map(len, blocks)) < _MIN_UINT8_BYTES or int(data.max()) >= 128:
        return False
    low, high = set(np.unique(data[0::2]).tolist()), set(np.unique(data[1::2]).tolist())
    return len(low | high) >= 8 and len(low & high) * 2 >= len(low | high)
