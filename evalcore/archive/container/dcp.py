"""The index of a distributed checkpoint (DCP): which slice of which file holds each part of each tensor.

Reads `.metadata` as inert data, and opens no slice. Layout: torch.distributed.checkpoint, metadata.py and filesystem.py
of torch 2.0 to 2.13; OLMo-core's writer has the same fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.machine import unpickle
from evalcore.archive.pickle.stack import StandInKey
from evalcore.archive.pickle.values import ITEM_BYTES, InertObject, Name

METADATA = ".metadata"
_VERSIONS = (None, "1.0.0")
_CONVERT = "convert it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt`"
_ROOT = "torch.distributed.checkpoint.metadata.Metadata"


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes of one file of the folder; each slice is a torch.save archive of its own."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Part:
    """A box of a tensor and the slice with its values. offsets, sizes: one per dimension, in elements."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    slice: Slice


@dataclass(frozen=True, slots=True)
class ShardedTensor:
    """One tensor, in parts that cover every element exactly once."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class DcpIndex:
    """tensors, objects: by the full name in the folder. places: full name -> its path in the dictionary saved.

    places is empty where the folder does not say it. saved_as: the path under which it was saved, or "".
    """

    tensors: dict[str, ShardedTensor]
    objects: dict[str, Slice]
    places: dict[str, tuple[str | int, ...]]
    saved_as: str = ""

    def slices(self) -> list[Slice]:
        parts = [part.slice for tensor in self.tensors.values() for part in tensor.parts]
        return [*parts, *self.objects.values()]


def read_index(path: str) -> DcpIndex:
    """The index in the file `.metadata` at `path`. Raises ArchiveError: corrupt, unsupported; OSError."""
    with OpenFile(path) as file:
        if file.size > LIMITS.index_bytes:
            raise _unsupported(f"its {METADATA} has {file.size} bytes, more than {LIMITS.index_bytes}")
        data = file.read(0, file.size)
    if not data:
        raise ArchiveError("corrupt", f"the folder's {METADATA} is empty", incomplete=True)
    try:
        root = unpickle(data, work=LIMITS.index_work).value
    except ArchiveError as error:
        raise ArchiveError(error.kind, f"{METADATA}: {error.reason}", error.hint, incomplete=error.incomplete) from None
    if not isinstance(root, InertObject) or root.class_name != _ROOT:
        raise _unsupported(f"its {METADATA} does not hold the Metadata of torch.distributed.checkpoint")
    fields = root.fields()
    version = fields.get("version")
    if version not in _VERSIONS:
        raise _unsupported(f"it is of DCP version {shown(version)}; read here is 1.0.0")
    return _index(fields)


def _index(fields: dict[Any, Any]) -> DcpIndex:
    described, stored = fields.get("state_dict_metadata"), fields.get("storage_data")
    if not isinstance(described, dict) or not isinstance(stored, dict):
        raise _unsupported(f"its {METADATA} does not say where the tensors are")
    slices = dict(_slice(key, value) for key, value in stored.items())
    tensors: dict[str, ShardedTensor] = {}
    objects: dict[str, Slice] = {}
    for name, entry in described.items():
        kind = entry.class_name.rpartition(".")[2] if isinstance(entry, InertObject) else type(entry).__name__
        if not isinstance(name, str) or len(name) > LIMITS.name_chars:
            raise _unsupported(f"a tensor's name is no text, or is too long: {shown(name)}")
        if kind == "TensorStorageMetadata":
            tensors[name] = _tensor(name, entry.fields(), slices)
        elif kind == "BytesStorageMetadata":
            objects[name] = _found(slices, name, None)
        else:
            raise _unsupported(f"{shown(name)} is described by a {shown(kind)}")
    places = _places(fields.get("planner_data"), described)
    return DcpIndex(tensors, objects, places, _saved_as(fields.get("storage_meta")))


def _slice(key: Any, value: Any) -> tuple[tuple[str, tuple[int, ...] | None], Slice]:
    """((name, offsets), slice) of one entry of the storage data."""
    index = key.source if isinstance(key, StandInKey) else key
    fields = index.fields() if isinstance(index, InertObject) else {}
    name, offset = fields.get("fqn"), fields.get("offset")
    place = value.fields() if isinstance(value, InertObject) else {}
    if not isinstance(name, str) or not (offset is None or _is_sizes(offset)):
        raise _unsupported(f"its {METADATA} names a slice in a way that is not known here")
    transforms = place.get("transform_descriptors")
    if transforms:
        listed = ", ".join(map(str, transforms)) if isinstance(transforms, (list, tuple)) else str(transforms)
        reason = f"{shown(name)} is stored through a transform ({shown(listed)}), which is not undone here"
        raise ArchiveError("unsupported", reason, "save it again without extensions of the writer")
    unknown = sorted(shown(field) for field in place if field not in ("relative_path", "offset", "length"))
    unknown = [field for field in unknown if field != "transform_descriptors"]
    if unknown:
        raise _unsupported(f"the slice of {shown(name)} has fields that are not known here: {', '.join(unknown[:5])}")
    file, start, length = place.get("relative_path"), place.get("offset"), place.get("length")
    if not isinstance(file, str) or not _is_sizes((start, length)):
        raise _unsupported(f"the slice of {shown(name)} is no place in a file")
    if not file or "/" in file or "\0" in file or file in (".", ".."):
        raise ArchiveError("unsafe", f"the slice of {shown(name)} lies outside the folder: {shown(file)}")
    return (name, offset), Slice(file, start, length)  # type: ignore[arg-type]


def _tensor(
    name: str, fields: dict[Any, Any], slices: dict[tuple[str, tuple[int, ...] | None], Slice]
) -> ShardedTensor:
    dtype = _dtype(name, fields.get("properties"))
    shape, chunks = fields.get("size"), fields.get("chunks")
    if not _is_sizes(shape) or not isinstance(chunks, (list, tuple)):
        raise _unsupported(f"the size of {shown(name)} is not a list of numbers")
    parts: dict[tuple[int, ...], Part] = {}
    for chunk in chunks:
        box = chunk.fields() if isinstance(chunk, InertObject) else {}
        offsets, sizes = box.get("offsets"), box.get("sizes")
        if not _is_sizes(offsets) or not _is_sizes(sizes) or not len(offsets) == len(sizes) == len(shape):  # type: ignore[arg-type]
            raise _unsupported(f"a part of {shown(name)} is no box of it")
        if 0 in sizes:  # type: ignore[operator]  # a rank with no rows writes no slice
            continue
        parts[offsets] = Part(offsets, sizes, _found(slices, name, offsets))  # type: ignore[index, arg-type]
    tensor = ShardedTensor(dtype, shape, tuple(parts[at] for at in sorted(parts)))  # type: ignore[arg-type]
    _demand_cover(name, tensor)
    return tensor


def _dtype(name: str, properties: Any) -> str:
    """The dtype of TensorProperties, whose state is (dtype, layout, requires_grad, memory format, pinned)."""
    state = properties.state if isinstance(properties, InertObject) else None
    dtype, layout = state[:2] if isinstance(state, tuple) and len(state) == 5 else (None, None)
    module, _, text = dtype.text.rpartition(".") if isinstance(dtype, Name) else ("", "", "")
    if module != "torch" or text not in ITEM_BYTES:
        raise _unsupported(f"{shown(name)} is of a dtype that is not read here")
    strided = layout.args == ("torch.strided",) if isinstance(layout, InertObject) else isinstance(layout, Name)
    if not strided:
        raise _unsupported(f"{shown(name)} is a sparse tensor")
    return text


def _demand_cover(name: str, tensor: ShardedTensor) -> None:
    """The parts lie in the tensor, do not overlap, and together are all of it."""
    boxes = [(part.offsets, tuple(map(sum, zip(part.offsets, part.sizes, strict=True)))) for part in tensor.parts]
    inside = all(end <= size for _, ends in boxes for end, size in zip(ends, tensor.shape, strict=True))
    covered = sum(math.prod(part.sizes) for part in tensor.parts)
    if not inside or covered != math.prod(tensor.shape) or _overlap(boxes):
        reason = f"the parts of {shown(name)} do not cover its shape {list(tensor.shape)} exactly once"
        raise ArchiveError("corrupt", reason, "save the checkpoint again, all ranks to the same folder")


def _overlap(boxes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether two boxes (start, end) share an element. Sorted by their first dimension, so that rows cost no square."""
    open_boxes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for start, end in sorted(boxes):
        open_boxes = [box for box in open_boxes if not start or box[1][0] > start[0]]
        for other_start, other_end in open_boxes:
            if all(max(a, c) < min(b, d) for a, b, c, d in zip(start, end, other_start, other_end, strict=True)):
                return True
        open_boxes.append((start, end))
    return False


def _saved_as(meta: Any) -> str:
    """The path in StorageMeta, which is a text or a pickled Path; "" where there is none."""
    path = meta.fields().get("checkpoint_id") if isinstance(meta, InertObject) else None
    if isinstance(path, InertObject) and all(isinstance(part, str) for part in path.args):
        return "/".join(path.args)
    return path if isinstance(path, str) else ""


def _places(planner: Any, described: dict[Any, Any]) -> dict[str, tuple[str | int, ...]]:
    """Full name -> path of keys, as the default planner writes it; empty where another planner, or none, wrote it."""
    if not isinstance(planner, dict):
        return {}
    places = {name: path for name, path in planner.items() if isinstance(name, str) and isinstance(path, tuple)}
    known = all(name in places and places[name] for name in described)
    plain = all(type(key) in (str, int) for path in places.values() for key in path)
    return places if known and plain else {}


def _found(
    slices: dict[tuple[str, tuple[int, ...] | None], Slice], name: str, offsets: tuple[int, ...] | None
) -> Slice:
    found = slices.get((name, offsets))
    if found is None:
        raise ArchiveError("corrupt", f"{METADATA} describes {shown(name)} and does not say where it is stored")
    return found


def _is_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in value)


def _unsupported(reason: str) -> ArchiveError:
    return ArchiveError("unsupported", reason, _CONVERT)
