"""What a REDUCE or NEWOBJ stands for: torch's rebuild functions become tensor references, all others inert objects.

Owns the list of names that are harmless data. Calls nothing that the file names.
"""

from __future__ import annotations

from typing import Any

from evalcore.archive.errors import shown
from evalcore.archive.pickle.numpy_values import ARRAY_FUNCTIONS, SCALAR_FUNCTIONS, number_of_scalar
from evalcore.archive.pickle.stack import Stack, damaged
from evalcore.archive.pickle.tensors import (
    PARAMETER_FUNCTIONS,
    TENSOR_FUNCTIONS,
    TYPED_FUNCTION,
    parameter_of,
    tensor_of,
    typed_of,
)
from evalcore.archive.pickle.values import ITEM_BYTES, InertObject, InertTensor, Name, OrderedMapping

_COUNTER, _DEFAULT_MAPPING = "collections.Counter", "collections.defaultdict"
_MAPPINGS = {"collections.OrderedDict", "builtins.dict", "__builtin__.dict", _COUNTER, _DEFAULT_MAPPING}
_SIZES = {"torch.Size", "builtins.tuple", "__builtin__.tuple", "builtins.list", "__builtin__.list"}
_BYTES = {"builtins.bytes", "__builtin__.bytes"}
_ENCODINGS = {"latin1": "latin-1", "latin-1": "latin-1", "utf-8": "utf-8", "utf8": "utf-8", "ascii": "ascii"}
_HARMLESS = {
    *TENSOR_FUNCTIONS, *PARAMETER_FUNCTIONS, *_MAPPINGS, *_SIZES, *_BYTES, *SCALAR_FUNCTIONS, *ARRAY_FUNCTIONS,
    TYPED_FUNCTION, "torch._tensor._rebuild_from_type", "_codecs.encode", "numpy.dtype",
    "numpy.ndarray", "builtins.set", "builtins.frozenset", "builtins.bytearray", "builtins.complex", "builtins.slice",
    "__builtin__.set", "__builtin__.frozenset", "__builtin__.bytearray", "collections.deque",
    "torch.device", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.Tensor",
    "torch.storage.UntypedStorage", "torch.storage.TypedStorage", "torch.serialization._get_layout",
    "builtins.int", "builtins.float", "builtins.str", "builtins.bool", "copy_reg._reconstructor",
}  # fmt: skip


def is_custom(name: str) -> bool:
    """Whether a class or function name is something else than tensors, their dtypes and plain containers."""
    return name not in _HARMLESS and not _is_torch_constant(name)


def _is_torch_constant(name: str) -> bool:
    """A dtype, a layout, or a storage class, which is named but never called."""
    module, _, attribute = name.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage"):
        return False
    return attribute.endswith("Storage") or attribute in ITEM_BYTES or attribute == "strided"


def call(stack: Stack, function: Any, args: Any) -> Any:
    """The inert value of function(*args). Raises ArchiveError where torch's own call would fail."""
    if not isinstance(function, Name):
        raise damaged("it calls something that is not a function")
    name = function.text
    if not isinstance(args, tuple):
        raise damaged(f"{shown(name)} gets no tuple of arguments")
    stack.spend(len(args))
    if name in TENSOR_FUNCTIONS:
        stack.tensors += 1
        return tensor_of(name, args)
    if name in PARAMETER_FUNCTIONS:
        return parameter_of(name, args)
    if name == TYPED_FUNCTION:
        stack.tensors += 1
        return typed_of(args)
    if name in _MAPPINGS:
        return _mapping(stack, name, args)
    if name in _SIZES:
        return _sizes(stack, name, args)
    if name == "_codecs.encode":
        return _encoded(stack, name, args)
    if name in _BYTES and not args:  # how protocols 0 to 2 write b""
        return b""
    if name in SCALAR_FUNCTIONS and (number := number_of_scalar(args)) is not None:
        return number
    if _is_torch_constant(name):
        raise damaged(f"it calls {shown(name)}, which is not a function")
    return InertTensor(name, args) if name.startswith("torch._utils._rebuild_") else InertObject(name, args)


def make_object(cls: Any, args: Any) -> Any:
    """The inert value of cls.__new__(cls, *args), as NEWOBJ makes it: a mapping is empty whatever its arguments."""
    if not isinstance(cls, Name):
        raise damaged("an object is made of something that is not a class")
    name = cls.text
    if not isinstance(args, tuple):
        raise damaged(f"{shown(name)} gets no tuple of arguments")
    if name in _MAPPINGS:
        if args:
            raise damaged(f"{shown(name)} is made with arguments, which are lost")
        return OrderedMapping()
    if name in TENSOR_FUNCTIONS or name in PARAMETER_FUNCTIONS or name == TYPED_FUNCTION or _is_torch_constant(name):
        raise damaged(f"it makes an object of {shown(name)}, which is not a class")
    return InertObject(name, args)


def _mapping(stack: Stack, name: str, args: tuple[Any, ...]) -> Any:
    if name == _DEFAULT_MAPPING:
        args = args[1:]  # the first makes default values
    if len(args) > 1:
        raise damaged(f"{shown(name)} gets {len(args)} arguments")
    if name == _COUNTER and args and not isinstance(args[0], dict):
        return InertObject(name, args)
    return stack.mapping(args[0] if args else ())


def _sizes(stack: Stack, name: str, args: tuple[Any, ...]) -> Any:
    """A torch.Size, or a tuple or list of Python 2's protocol, as a tuple."""
    source = args[0] if args else ()
    if len(args) > 1 or not isinstance(source, (tuple, list)):
        return InertObject(name, args)
    if name == "torch.Size" and not all(type(size) is int for size in source):
        raise damaged("a torch.Size is not a list of sizes")
    stack.spend(len(source))
    return list(source) if name.endswith("list") else tuple(source)


def _encoded(stack: Stack, name: str, args: tuple[Any, ...]) -> Any:
    """How protocol 2 writes bytes: a text and the encoding that gives them back."""
    encoding = _ENCODINGS.get(args[1]) if len(args) == 2 and isinstance(args[1], str) else None
    if encoding is None or not isinstance(args[0], str):
        return InertObject(name, args)
    stack.spend(len(args[0]) // 16)
    return args[0].encode(encoding)
