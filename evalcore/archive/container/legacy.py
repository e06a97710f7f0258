"""The format without zip (torch before 1.6, or asked for): its pickles read as data and its length checked.

Five pickles, then for each storage its element count (int64) and its bytes. There is no checksum. A bare pickle, as
`pickle.dump` writes it, is recognised too, so that what it would have run can be named.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.machine import LEGACY_STORAGE_ID, Pickled, unpickle
from evalcore.archive.pickle.rebuild import is_custom
from evalcore.archive.pickle.values import ITEM_BYTES

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


@dataclass(frozen=True)
class Legacy:
    """A complete file without checksums. pickled: the payload; offsets: where each storage's bytes start, how many.

    format: legacy; or safetensors or llmc, whose header takes the place of the pickle.
    """

    pickled: Pickled
    offsets: dict[str, tuple[int, int]]
    format: str = "legacy"


def looks_legacy(head: bytes) -> bool:
    """Whether the first bytes can be those of a pickle."""
    return (head[:1] == b"\x80" and head[1:2] <= b"\x05") or (head[:1] in (b"(", b"c", b"}", b"]") and b"\n" in head)


def read_legacy(file: OpenFile) -> Legacy:
    """Read the pickles and walk over the storages. Raises ArchiveError: corrupt (cut off) or unsupported."""
    data = file.read(0, min(file.size, LIMITS.pickle_bytes))
    first = unpickle(data)
    if first.value != _MAGIC_NUMBER:
        _refuse_bare_pickle(first)
    protocol = unpickle(data, first.end)
    if protocol.value != _PROTOCOL_VERSION:
        raise ArchiveError("corrupt", "the file's protocol version is not the one that torch.save writes")
    system = unpickle(data, protocol.end)
    if isinstance(system.value, dict) and system.value.get("little_endian") is False:
        raise ArchiveError(
            "unsupported", "the file was saved on a big-endian machine", "save it on a little-endian one"
        )
    payload = unpickle(data, system.end, storage_id_length=LEGACY_STORAGE_ID)
    keys = unpickle(data, payload.end)
    if not isinstance(keys.value, list) or not all(isinstance(key, str) for key in keys.value):
        raise ArchiveError("corrupt", "the list of storages is damaged")
    return Legacy(payload, _walk(file, payload, keys))


def _walk(file: OpenFile, payload: Pickled, keys: Pickled) -> dict[str, tuple[int, int]]:
    """Every storage's length prefix leads to the next, and the last ends the file."""
    offsets: dict[str, tuple[int, int]] = {}
    at = keys.end
    for key in keys.value:
        prefix = file.read(at, 8)
        storage = payload.storages.get(key)
        if storage is None or key in offsets:
            raise ArchiveError("corrupt", f"storage {shown(key)} is listed but not used, or listed twice")
        item_bytes = ITEM_BYTES[storage.dtype] if storage.dtype else 1
        numel = struct.unpack("<q", prefix)[0] if len(prefix) == 8 else 0
        offsets[key] = (at + 8, numel * item_bytes)
        at += 8 + numel * item_bytes
        if len(prefix) < 8 or at > file.size:
            raise ArchiveError("corrupt", "the file is cut off inside its tensors", incomplete=True)
        if numel < 0:
            raise ArchiveError("corrupt", f"storage {shown(key)} has a negative length")
    if at != file.size:
        raise ArchiveError("corrupt", f"{file.size - at} bytes follow the last tensor")
    return offsets


def _refuse_bare_pickle(first: Pickled) -> None:
    names = sorted(shown(name) for name in first.names if is_custom(name))
    if names:
        reason = f"the file is a bare pickle that would call {', '.join(names[:5])} when loaded; it was not loaded"
        raise ArchiveError("unsafe", reason, "save the model's state_dict with torch.save")
    raise ArchiveError("unsupported", "the file is a bare pickle, not written by torch.save", "save it with torch.save")
