"""Inert stand-ins for what a pickle names: nothing here can be called, and nothing holds a live object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: dtype name -> bytes per element
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    "uint16": 2, "uint32": 4, "uint64": 8,
    "complex32": 4, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

#: torch's typed storage classes -> dtype name
STORAGE_DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip


class Name:
    """A class or function that the pickle names; stands for it and does nothing."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text[:120]}>"


class OrderedMapping(dict[Any, Any]):
    """An OrderedDict or another mapping that, unlike a dict, has attributes; those are checked and dropped."""

    __slots__ = ()


#: values whose class has neither items, nor a state, nor a list's methods
_CLOSED = {
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in ("set", "frozenset", "complex", "bytearray", "slice")
} | {"torch.device", "torch.Size", "_codecs.encode"}


class InertObject:
    """An object of a class, or the result of a call, that was not made: class_name, arguments, and what was set on it.

    state: the argument of BUILD. items: what SETITEM set, for subclasses of dict. appended: what APPEND added, for
    subclasses of list.
    """

    __slots__ = ("appended", "args", "class_name", "items", "state")

    def __init__(self, class_name: str, args: Any = ()) -> None:
        self.class_name = class_name
        self.args = args
        self.state: Any = None
        self.items: dict[Any, Any] | None = None
        self.appended: list[Any] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be set on or added to it, so that a pickle that does is damaged."""
        return self.class_name in _CLOSED

    def fields(self) -> dict[Any, Any]:
        """The object's attributes as the pickle gives them, else the items of a mapping; empty where it has neither."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots), pickle protocol 2
            merged: dict[Any, Any] = {}
            for part in state:
                if isinstance(part, dict):
                    merged.update(part)
            return merged
        if isinstance(state, dict) and (state or not self.items):
            return state
        return self.items if self.items is not None else {}

    def __repr__(self) -> str:
        return f"<{self.class_name[:120]} object>"


class InertTensor(InertObject):
    """A tensor that is not read as weights: sparse, quantised, nested, of a subclass, of a dtype below one byte.

    dtype: of its elements, where the pickle tells it; else "".
    """

    __slots__ = ("dtype",)

    def __init__(self, class_name: str, args: Any = (), dtype: str = "") -> None:
        super().__init__(class_name, args)
        self.dtype = dtype

    @property
    def closed(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage: the record `data/<key>`, its dtype (None where untyped) and its size in bytes."""

    key: str
    dtype: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor that was not made: a view into a storage. offset, shape and stride count elements.

    negative, conjugate: the values are those of the storage, negated or conjugated (torch's neg and conj bits).
    """

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    negative: bool = False
    conjugate: bool = False

    @property
    def numel(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def size_bytes(self) -> int:
        return self.numel * ITEM_BYTES[self.dtype]

    @property
    def contiguous(self) -> bool:
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and step != expected:
                return False
            expected *= size
        return True

    @property
    def end(self) -> int:
        """One past the last element of the storage that the tensor touches; 0 where it is empty."""
        if 0 in self.shape:
            return 0
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
