"""A distributed checkpoint (DCP) folder as one payload: the dictionary that was saved, with references for tensors.

Owns which folder holds the index, the order in which files are opened, and the files that describe the model. Reads no
weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from evalcore.archive.container.dcp import METADATA, DcpIndex, ShardedTensor, Slice, read_index
from evalcore.archive.container.records import read_entry
from evalcore.archive.container.source import OpenFile, Window
from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.meaning.folder_notes import mixed_saves
from evalcore.archive.meaning.megatron import refusal_of_folder
from evalcore.archive.meaning.sidecars import OF_THE_MODEL, Sidecar, read_values
from evalcore.archive.meaning.state_dicts import MODEL_KEYS
from evalcore.archive.payload import Payload, read_payload
from evalcore.archive.pickle.values import ITEM_BYTES, InertObject, StorageRef, TensorRef

#: where the index is: in the folder itself, in OLMo-core's part with the weights, in Accelerate's
_INSIDE = ("", "model_and_optim", "pytorch_model_fsdp_0")
#: top keys whose objects say nothing about the model; torchtitan keeps thousands of values under `optimizer`
_ASIDE = ("optim", "lr_scheduler", "scheduler", "dataloader", "rng", "random")
_OBJECTS_MAX, _OBJECT_BYTES_MAX = 200, 64 << 10
_OF_THE_STEP = ("train_state_00000.json", "trainer_state.json")


def index_folder(path: str) -> str | None:
    """The folder with the `.metadata` of this checkpoint: `path`, or a known folder in it, or None.

    Raises ArchiveError `unsupported` where every rank wrote an index of its own.
    """
    for name in _INSIDE:
        folder = os.path.join(path, name) if name else path
        if os.path.isfile(os.path.join(folder, METADATA)):
            return folder
    names = os.listdir(path)
    if any(re.fullmatch(r"__\d+\.metadata", name) for name in names):
        reason = "it is a DCP checkpoint in which each rank wrote an index of its own (use_collectives=False)"
        raise ArchiveError("unsupported", reason, "save it with use_collectives=True")
    if any(name.endswith(".distcp") for name in names):
        reason = f"the DCP folder lacks {METADATA}, which is written last: it is not finished, or was interrupted"
        raise ArchiveError("corrupt", reason, incomplete=True)
    return None


class DcpFolder:
    """An opened DCP folder. Files of slices are opened when they are first needed and stay open until `close`.

    payload: what was saved, as nested dictionaries; a tensor's storage key is its full name. refusal: why it can be
    looked at and not evaluated, or None.
    """

    def __init__(self, path: str) -> None:
        place = index_folder(path)
        if place is None:
            raise ArchiveError("unsupported", f"the folder has no {METADATA}", "give a DCP checkpoint's folder")
        self.path = path
        self._folder = place
        self.index: DcpIndex = read_index(os.path.join(place, METADATA))
        _demand_of_this_folder(self.index.saved_as, path)
        self.refusal = refusal_of_folder(place, self.index.objects)
        self._files: dict[str, OpenFile] = {}
        self.metadata = OpenFile(os.path.join(place, METADATA))
        try:
            self.size_bytes = self.metadata.size + self._demand_complete()
            self.sidecars = self._read_sidecars()
            self.payload = self._read_payload()
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What is unusual about the folder, for a result's note."""
        return mixed_saves(self._folder, METADATA, sorted({part.file for part in self.index.slices()}))

    @property
    def files(self) -> list[OpenFile]:
        """The index and every file that was opened so far."""
        return [self.metadata, *self._files.values()]

    def close(self) -> None:
        for file in self.files:
            file.close()

    def rewritten(self) -> bool:
        """Whether the index is another file now, or gone."""
        then = self.metadata.status
        try:
            now = os.stat(os.path.join(self._folder, METADATA))
        except OSError:
            return True
        return (now.st_ino, now.st_size, now.st_mtime_ns) != (then.st_ino, then.st_size, then.st_mtime_ns)

    def window(self, part: Slice) -> Window:
        """The bytes of a slice as a file of its own."""
        file = self._files.get(part.file)
        if file is None:
            file = self._files[part.file] = OpenFile(os.path.join(self._folder, part.file))
        return Window(file, part.offset, part.length)

    def slice_payload(self, part: Slice, file: Window) -> Payload:
        """What torch.save wrote into the slice. Raises ArchiveError naming the file."""
        head = file.read(0, 4)
        if len(head) == 4 and not head.startswith(b"PK\3\4"):
            if Window(file, 8, 1).read(0, 1) == b"{" or head[:1] == b"{":
                hint = "save it with serialization_format = SerializationFormat.TORCH_SAVE"
                raise ArchiveError("unsupported", f"{part.file} holds safetensors, not slices of torch.save", hint)
            raise ArchiveError("corrupt", f"{self._where(part)} is no archive of torch.save", _AGAIN)
        try:
            return read_payload(file)
        except ArchiveError as error:
            raise ArchiveError(error.kind, f"{self._where(part)}: {error.reason}", error.hint or _AGAIN) from None

    def _where(self, part: Slice) -> str:
        return f"{shown(part.file)} from byte {part.offset} to {part.offset + part.length}"

    def _demand_complete(self) -> int:
        """The bytes of all slice files, each as long as its last slice needs."""
        ends: dict[str, int] = {}
        for part in self.index.slices():
            ends[part.file] = max(ends.get(part.file, 0), part.offset + part.length)
        total = 0
        for name, end in sorted(ends.items()):
            try:
                size = os.stat(os.path.join(self._folder, name)).st_size
            except FileNotFoundError:
                raise ArchiveError("corrupt", f"the folder lacks {shown(name)}", _AGAIN, incomplete=True) from None
            if size < end:
                reason = f"{shown(name)} is cut off: it has {size} bytes, and its slices end at byte {end}"
                raise ArchiveError("corrupt", reason, _AGAIN, incomplete=True)
            if size > end:
                reason = f"{shown(name)} has {size} bytes, and by {METADATA} its slices end at byte {end}"
                raise ArchiveError("corrupt", f"{reason}: the two are not of one checkpoint", _AGAIN, incomplete=True)
            total += size
        return total

    def _read_sidecars(self) -> list[Sidecar]:
        folders = dict.fromkeys((self.path, self._folder))
        found = [(name, read_values(os.path.join(folder, name))) for folder in folders for name in _SIDECARS]
        return [Sidecar(name, values) for name, values in found if values]

    def _read_payload(self) -> Payload:
        root: dict[Any, Any] = {}
        for name, tensor in self.index.tensors.items():
            _put(root, self._place(name), _reference(name, tensor))
        left = _OBJECTS_MAX
        for name, part in self.index.objects.items():
            place = self._place(name)
            readable = part.length <= _OBJECT_BYTES_MAX and not str(place[0]).startswith(_ASIDE)
            if readable and left:
                left -= 1
                _put(root, place, self.slice_payload(part, self.window(part)).root)
            else:
                _put(root, place, InertObject("object saved in a slice"))
        return Payload("dcp", root, (), len(self.index.tensors), self._digest(), False, small=self._small)

    def _place(self, name: str) -> tuple[str | int, ...]:
        """The path in the dictionary saved; where the planner does not say it, the first dot ends a key."""
        if name in self.index.places:
            return self.index.places[name]
        head, dot, rest = name.partition(".")
        return (head, rest) if dot and (head in MODEL_KEYS or head.startswith(_ASIDE)) else (name,)

    def _small(self, storage: StorageRef) -> bytes | None:
        """The bytes of a small tensor in one part: a step, a loss."""
        tensor = self.index.tensors.get(storage.key)
        if tensor is None or len(tensor.parts) != 1:
            return None
        file = self.window(tensor.parts[0].slice)
        payload = self.slice_payload(tensor.parts[0].slice, file)
        value, directory = payload.root, payload.directory
        if not isinstance(value, TensorRef) or directory is None or value.storage.size_bytes != storage.size_bytes:
            return None
        return read_entry(file, directory, directory.entries[f"data/{value.storage.key}"])

    def _digest(self) -> str:
        """Over the index, which has an identifier of its own for each save, and the sizes of the files it names."""
        state = hashlib.sha256(b"ckptwatch dcp folder 1\n" + self.metadata.read(0, self.metadata.size))
        sizes = {p.file: os.stat(os.path.join(self._folder, p.file)).st_size for p in self.index.slices()}
        state.update(json.dumps(sorted(sizes.items())).encode())
        for sidecar in self.sidecars:
            if sidecar.name in OF_THE_MODEL:
                state.update(json.dumps([sidecar.name, sidecar.values], sort_keys=True, default=str).encode())
        return "sha256:" + state.hexdigest()


def _demand_of_this_folder(saved_as: str, path: str) -> None:
    """Raise ArchiveError where the index was written for another step: equal names but for their numbers."""
    names = [name for name in saved_as.split("/") if name and name not in _INSIDE]
    own = os.path.basename(os.path.abspath(path))
    if names and names[-1] != own and re.search(r"\d", own) and _unnumbered(names[-1]) == _unnumbered(own):
        reason = f"{METADATA} was written for {shown(names[-1])}, and the folder is {shown(own)}"
        hint = f"put the {METADATA} of this step back; if the folder was renamed, give it its name back"
        raise ArchiveError("corrupt", reason, hint)


def _unnumbered(name: str) -> str:
    return re.sub(r"\d+", "#", name)


_SIDECARS = (*OF_THE_MODEL, *_OF_THE_STEP)
_AGAIN = "copy or save the checkpoint again"


def _reference(name: str, tensor: ShardedTensor) -> TensorRef:
    """The whole tensor, contiguous, in a storage of its own."""
    stride: list[int] = []
    step = 1
    for size in reversed(tensor.shape):
        stride.insert(0, step)
        step *= size
    storage = StorageRef(name, tensor.dtype, step * ITEM_BYTES[tensor.dtype])
    return TensorRef(storage, tensor.dtype, 0, tensor.shape, tuple(stride))


def _put(root: dict[Any, Any], place: tuple[str | int, ...], value: Any) -> None:
    for key in place[:-1]:
        inner = root.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ArchiveError("corrupt", f"{METADATA} uses {shown(key)} both as a value and as a mapping")
        root = inner
    root[place[-1]] = value
