"""What a REDUCE stands for: torch's own rebuild functions become references to tensors, all others inert records.

Owns the list of names that are harmless data. Calls nothing that the file names.
"""

from __future__ import annotations

import struct
from typing import Any

from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.pickle.values import ITEM_BYTES, STORAGE_DTYPES, Foreign, Name, StorageRef, TensorRef

_V2 = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
_V3 = "torch._utils._rebuild_tensor_v3"
_PARAMETER = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_TYPED = {"torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"}
_MAPPINGS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}
_TUPLES = {"torch.Size", "builtins.tuple", "__builtin__.tuple", "builtins.list", "__builtin__.list"}
_SCALARS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_NUMPY_CODES = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b",
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip
_HARMLESS = _V2 | _PARAMETER | _TYPED | _MAPPINGS | _TUPLES | _SCALARS | {
    _V3, "_codecs.encode", "numpy.dtype", "numpy.ndarray",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    "builtins.bytes", "__builtin__.bytes",
    "builtins.set", "builtins.frozenset", "builtins.bytearray", "builtins.complex", "builtins.slice",
    "__builtin__.set", "__builtin__.frozenset", "__builtin__.bytearray", "collections.Counter", "collections.deque",
    "torch.device", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.Tensor",
    "torch.storage.UntypedStorage", "torch.storage.TypedStorage", "torch.serialization._get_layout",
    "builtins.int", "builtins.float", "builtins.str", "builtins.bool", "copy_reg._reconstructor",
}  # fmt: skip
_MAX_DIMENSIONS = 64
_MAX_SIZE = (1 << 63) - 1


def is_foreign(name: str) -> bool:
    """Whether a class or function name is something else than tensors, their dtypes and plain containers."""
    if name in _HARMLESS:
        return False
    module, _, attribute = name.rpartition(".")
    if module in ("torch", "torch.cuda", "torch.storage"):
        return not (attribute.endswith("Storage") or attribute in ITEM_BYTES or attribute in ("strided", "uint8"))
    return True


def call(function: Any, args: Any) -> Any:
    """The inert value of function(*args). A list stands for the pairs of a mapping, which the machine builds."""
    if not isinstance(function, Name):
        raise ArchiveError("corrupt", "the pickle is damaged: it calls something that is no function")
    name = function.text
    if not isinstance(args, tuple):
        raise ArchiveError("corrupt", f"the pickle is damaged: {shown(name)} gets no argument tuple")
    if name in _V2 or name == _V3:
        return _tensor(name, args)
    if name in _PARAMETER and args and isinstance(args[0], TensorRef):
        return args[0]
    if name in _TYPED and len(args) == 4 and isinstance(args[0], Name) and args[0].text not in _TYPED:
        return _typed(args[0], args[2], name)
    if name in _MAPPINGS:
        pairs = args[-1] if args and isinstance(args[-1], list) else []
        return list(pairs)
    if name in _TUPLES:
        return tuple(args[0]) if args and isinstance(args[0], (tuple, list)) else ()
    if name == "_codecs.encode" and args and isinstance(args[0], str):
        return args[0].encode("latin-1", "replace")
    if name in ("__builtin__.bytes", "builtins.bytes") and not args:  # how protocols 0 to 2 write b""
        return b""
    if name in _SCALARS:
        return _scalar(name, args)
    return Foreign(name, args)


def persistent(pid: Any) -> Any:
    """The storage behind a persistent id; an inert record for any other kind of id."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        return Foreign("persistent id", pid)
    cls, key, location, numel = pid[1:5]
    name = cls.text.rpartition(".")[2] if isinstance(cls, Name) else None
    if name is None or not isinstance(key, str) or type(numel) is not int or not 0 <= numel <= _MAX_SIZE:
        raise ArchiveError("corrupt", "the pickle is damaged: a storage is described wrongly")
    if name == "UntypedStorage":
        return StorageRef(key, None, numel, str(location)[:40])
    dtype = STORAGE_DTYPES.get(name)
    if dtype is None or (len(pid) > 5 and pid[5] is not None):  # quantised, or a view of torch before 0.4
        return Foreign(cls.text, pid)
    return StorageRef(key, dtype, numel * ITEM_BYTES[dtype], str(location)[:40])


def _tensor(name: str, args: tuple[Any, ...]) -> Any:
    if len(args) < 4:
        raise ArchiveError("corrupt", "the pickle is damaged: a tensor lacks its shape")
    storage, offset, shape, stride = args[:4]
    if isinstance(storage, Foreign):
        return Foreign(name, args)
    dtype = storage.dtype if isinstance(storage, StorageRef) else None
    if name == _V3:
        given = args[6] if len(args) > 6 else None
        dtype = given.text.rpartition(".")[2] if isinstance(given, Name) else None
        if dtype is not None and dtype not in ITEM_BYTES:
            return Foreign(name, args)
    if not isinstance(storage, StorageRef) or dtype is None:
        raise ArchiveError("corrupt", "the pickle is damaged: a tensor lacks its storage or dtype")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise ArchiveError("corrupt", "the pickle is damaged: a tensor's shape and stride do not fit")
    if len(shape) > _MAX_DIMENSIONS or not all(
        type(n) is int and 0 <= n <= _MAX_SIZE for n in (offset, *shape, *stride)
    ):
        raise ArchiveError("shape", "a tensor's shape or stride is no list of sizes")
    tensor = TensorRef(storage, dtype, offset, shape, stride)
    if tensor.failpoint * ITEM_BYTES[dtype] > storage.size_bytes:
        reason = f"a tensor of shape {shown(shape)} reaches beyond its storage of {storage.size_bytes} bytes"
        raise ArchiveError("shape", reason)
    return tensor


def _typed(function: Name, args: Any, name: str) -> Any:
    if isinstance(args, tuple) and (function.text in _V2 or function.text == _V3):
        return _tensor(function.text, args)
    return Foreign(name, (function, args))


def _scalar(name: str, args: tuple[Any, ...]) -> Any:
    """A numpy scalar as a Python number: (dtype, its bytes)."""
    if len(args) == 2 and isinstance(args[0], Foreign) and isinstance(args[1], bytes):
        kind = args[0].args[0] if isinstance(args[0].args, tuple) and args[0].args else None
        code = _NUMPY_CODES.get(kind) if isinstance(kind, str) else None
        state = args[0].state
        order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "<"
        if code is not None and len(args[1]) == struct.calcsize(code):
            return struct.unpack(order + code, args[1])[0]
    return Foreign(name, args)
