"""Tensors, parameters and storages as a pickle describes them: references into records, checked as torch checks them.

Reads no record. What is no plain strided tensor (sparse, quantised, nested, a subclass) stays an inert object, which a
state dict may not hold. Source of the argument lists: torch/_utils.py and torch/_tensor.py of torch 2.13.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.pickle.stack import damaged
from evalcore.archive.pickle.values import (
    ITEM_BYTES,
    STORAGE_DTYPES,
    InertObject,
    InertTensor,
    Name,
    StorageRef,
    TensorRef,
)

#: rebuild function -> how many arguments it takes
TENSOR_FUNCTIONS = {
    "torch._utils._rebuild_tensor": (4,),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_tensor_v3": (7, 8),
}
PARAMETER_FUNCTIONS = {"torch._utils._rebuild_parameter": (3,), "torch._utils._rebuild_parameter_with_state": (4,)}
TYPED_FUNCTION = "torch._tensor._rebuild_from_type_v2"
_PLAIN_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch._tensor.Tensor")
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_DIFFERENTIABLE = ("float", "bfloat", "complex")
#: dtypes that torch negates on a CPU
_NEGATED = (
    *("float64", "float32", "float16", "bfloat16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8"),
)
_MAX_DIMENSIONS = 64
_MAX_SIZE = (1 << 63) - 1
#: Properties of torch.Tensor: an attribute of this name would change the tensor, or cannot be set.
TENSOR_PROPERTIES = frozenset({
    "H", "T", "_backward_hooks", "_base", "_cdata", "_grad", "_grad_fn", "_has_symbolic_sizes_strides", "mH", "mT",
    "_post_accumulate_grad_hooks", "_python_dispatch", "_version", "data", "device", "dtype", "grad", "grad_dtype",
    "grad_fn", "imag", "is_cpu", "is_cuda", "is_ipu", "is_leaf", "is_maia", "is_meta", "is_mkldnn", "is_mps",
    "is_mtia", "is_nested", "is_quantized", "is_sparse", "is_sparse_csr", "is_vulkan", "is_xla", "is_xpu",
    "itemsize", "layout", "name", "names", "nbytes", "ndim", "output_nr", "real", "requires_grad", "retains_grad",
    "shape", "volatile",
})  # fmt: skip


def storage_of(pid: Any, id_length: int) -> StorageRef | InertObject:
    """The storage behind a persistent id of `id_length` items; an inert object for one that is not read here."""
    if not isinstance(pid, tuple) or len(pid) != id_length or pid[0] != "storage":
        if id_length == 6 and isinstance(pid, tuple) and pid[:1] == ("module",):  # source code saved with a module
            return InertObject("persistent id", pid)
        raise damaged("a persistent id is not that of a storage")
    cls, key, location, numel = pid[1:5]
    module, _, name = cls.text.rpartition(".") if isinstance(cls, Name) else ("", "", "")
    sized = type(numel) is int and 0 <= numel <= _MAX_SIZE
    named = module in _STORAGE_MODULES and name.endswith("Storage")
    if not named or not isinstance(key, str) or not isinstance(location, str) or not sized:
        raise damaged("a storage is described wrongly")
    if name == "UntypedStorage":
        return StorageRef(key, None, numel)
    dtype = STORAGE_DTYPES.get(name)
    if dtype is None or (id_length == 6 and pid[5] is not None):  # quantised, or a view of torch before 0.4
        return InertObject(cls.text, pid)
    if numel * ITEM_BYTES[dtype] > _MAX_SIZE:
        raise damaged("a storage is described wrongly")
    return StorageRef(key, dtype, numel * ITEM_BYTES[dtype])


def tensor_of(name: str, args: tuple[Any, ...]) -> TensorRef | InertTensor:
    """The result of one of TENSOR_FUNCTIONS. Raises ArchiveError `corrupt` or `shape` where torch would fail."""
    if len(args) not in TENSOR_FUNCTIONS[name]:
        raise damaged("a tensor is rebuilt from the wrong number of arguments")
    storage, offset, shape, stride = args[:4]
    third = name.endswith("_v3")
    dtype = storage.dtype if isinstance(storage, StorageRef) else None
    if third:
        module, _, attribute = args[6].text.rpartition(".") if isinstance(args[6], Name) else ("", "", "")
        dtype = attribute if module == "torch" and not attribute.endswith("Storage") else None
    if isinstance(storage, InertObject) and not isinstance(storage, InertTensor):  # a storage that is not read here
        return InertTensor(name, args)
    if not isinstance(storage, StorageRef) or dtype is None:
        raise damaged("a tensor lacks its storage or dtype")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise damaged("a tensor's shape and stride do not fit")
    if len(shape) > _MAX_DIMENSIONS or not all(
        type(n) is int and 0 <= n <= _MAX_SIZE for n in (offset, *shape, *stride)
    ):
        raise ArchiveError("shape", "a tensor's shape or stride is not a list of sizes")
    if len(args) > 4:
        _demand_gradient(args[4], dtype)
        _demand_hooks(args[5])
    if third and args[4]:
        raise damaged("a tensor of a newer dtype requires gradients, which torch cannot load")
    metadata = args[7 if third else 6] if len(args) == max(TENSOR_FUNCTIONS[name]) and len(args) > 4 else None
    if dtype not in ITEM_BYTES:  # less than one byte per element
        return InertTensor(f"torch.{dtype} tensor", args, dtype)
    tensor = TensorRef(storage, dtype, offset, shape, stride)
    _demand_sizes(tensor)
    return _with_metadata(tensor, metadata) if metadata else tensor


def parameter_of(name: str, args: tuple[Any, ...]) -> Any:
    """The result of one of PARAMETER_FUNCTIONS: the tensor itself, once its attributes are known not to change it."""
    if len(args) not in PARAMETER_FUNCTIONS[name]:
        raise damaged("a parameter is rebuilt from the wrong number of arguments")
    tensor = args[0]
    if not isinstance(tensor, (TensorRef, InertObject)):
        raise damaged("a parameter is made of something that is not a tensor")
    dtype = tensor.dtype if isinstance(tensor, (TensorRef, InertTensor)) else ""
    _demand_gradient(args[1], dtype or "float32")
    _demand_hooks(args[2])
    if len(args) == 4:
        _demand_harmless(args[3])
    if isinstance(tensor, InertObject):
        return InertTensor(name, args, dtype)
    return tensor


def typed_of(args: tuple[Any, ...]) -> Any:
    """The result of TYPED_FUNCTION(function, type, arguments, state): a plain tensor with attributes, or inert."""
    if len(args) != 4 or not isinstance(args[0], Name) or not isinstance(args[1], Name) or type(args[2]) is not tuple:
        raise damaged("a tensor of another type is rebuilt from the wrong arguments")
    function, cls, inner, state = args
    if function.text in TENSOR_FUNCTIONS:
        tensor = tensor_of(function.text, inner)
    elif function.text in PARAMETER_FUNCTIONS:
        tensor = parameter_of(function.text, inner)
    else:
        return InertTensor(TYPED_FUNCTION, args)
    if cls.text not in _PLAIN_TYPES or isinstance(tensor, InertObject):  # what a subclass means is not known here
        return InertTensor(cls.text, args)
    _demand_harmless(state)
    return tensor


def _with_metadata(tensor: TensorRef, metadata: Any) -> TensorRef | InertTensor:
    """torch's neg and conj bits. Other entries belong to other devices: such a tensor stays inert."""
    # torch sets a bit whose flag is False too: such a file is refused
    if not isinstance(metadata, dict) or not all(type(k) is str and v is True for k, v in metadata.items()):
        raise damaged("a tensor's metadata is not a mapping of names to flags that are set")
    if not metadata.keys() <= {"neg", "conj"}:
        return InertTensor("tensor with metadata", (tensor, metadata), tensor.dtype)
    conjugate, negative = "conj" in metadata, "neg" in metadata
    if conjugate and not tensor.dtype.startswith("complex"):
        raise damaged("a tensor that is not complex is conjugated")
    if (conjugate or negative) and tensor.dtype not in _NEGATED:  # torch has no values for it either
        return InertTensor(f"negated {tensor.dtype} tensor", (tensor, metadata), tensor.dtype)
    return replace(tensor, negative=negative, conjugate=conjugate)


def _demand_sizes(tensor: TensorRef) -> None:
    elements = 1
    for size in tensor.shape:
        elements *= size or 1
    if elements * ITEM_BYTES[tensor.dtype] > _MAX_SIZE:
        raise ArchiveError("shape", f"a tensor of shape {shown(tensor.shape)} has more elements than can be counted")
    if tensor.end * ITEM_BYTES[tensor.dtype] > tensor.storage.size_bytes:
        size_bytes = tensor.storage.size_bytes
        reason = f"a tensor of shape {shown(tensor.shape)} reaches beyond its storage of {size_bytes} bytes"
        raise ArchiveError("shape", reason)


def _demand_gradient(requires_grad: Any, dtype: str) -> None:
    if type(requires_grad) is not bool or (requires_grad and not dtype.startswith(_DIFFERENTIABLE)):
        raise damaged("a tensor's requires_grad does not fit its dtype")


def _demand_hooks(hooks: Any) -> None:
    if hooks is not None and not isinstance(hooks, dict):
        raise damaged("a tensor's hooks are no mapping")


def _demand_harmless(state: Any) -> None:
    """A tensor's Python attributes may not include one that replaces its values, such as `data`."""
    parts = state if isinstance(state, tuple) else (state, None)
    if len(parts) != 2 or not all(part is None or isinstance(part, dict) for part in parts):
        raise damaged("a tensor's attributes are no mapping")
    for part in parts:
        for key in part or ():
            if not isinstance(key, str):
                raise damaged("a tensor's attribute has no text as its name")
            if key in TENSOR_PROPERTIES or key.startswith("__"):
                raise ArchiveError("unsafe", f"the pickle sets a tensor's {shown(key)}, which torch.save never writes")
