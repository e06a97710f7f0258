"""numpy's scalars and arrays of one element as Python numbers, from what their pickles hold. Does not need numpy."""

from __future__ import annotations

import struct
from typing import Any

from evalcore.archive.pickle.values import InertObject

SCALAR_FUNCTIONS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
ARRAY_FUNCTIONS = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_CODES = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b",
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip


def number_of_scalar(args: Any) -> Any:
    """The number of scalar(dtype, bytes); None where it is no plain number."""
    return _number(args[0], args[1]) if isinstance(args, tuple) and len(args) == 2 else None


def number_of_array(value: InertObject) -> Any:
    """The number in an array of exactly one element; None for any other object.

    An array's state is (version, shape, dtype, whether in Fortran order, bytes).
    """
    state = value.state
    if value.class_name not in ARRAY_FUNCTIONS or not isinstance(state, tuple) or len(state) != 5:
        return None
    shape = state[1]
    if not isinstance(shape, tuple) or len(shape) > 8 or any(size != 1 for size in shape):
        return None
    return _number(state[2], state[4])


def _number(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, InertObject) or dtype.class_name != "numpy.dtype" or not isinstance(data, bytes):
        return None
    kind = dtype.args[0] if isinstance(dtype.args, tuple) and dtype.args else None
    code = _CODES.get(kind) if isinstance(kind, str) else None
    state = dtype.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "<"
    if code is None or len(data) != struct.calcsize(code):
        return None
    return struct.unpack(order + code, data)[0]
