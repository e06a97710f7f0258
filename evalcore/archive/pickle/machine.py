"""A pickle read as inert data: the opcodes' stack machine, with nothing in it that could call, import or look up.

Own machine instead of the standard unpickler, whose REDUCE, BUILD and APPEND call what the stack holds, whose memo is
an array that the file sizes, and whose keys the file may choose to collide. Opcodes: the standard `pickletools`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from evalcore.archive.errors import LIMITS, ArchiveError
from evalcore.archive.pickle.opcodes import TABLE
from evalcore.archive.pickle.stack import Stack, damaged
from evalcore.archive.pickle.values import Name, StorageRef

#: how many items the persistent id of a storage has in torch's zip format, and in the format before it
ZIP_STORAGE_ID, LEGACY_STORAGE_ID = 5, 6
_uint32 = struct.Struct("<I").unpack_from


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle holds. names: every class and function named in it; end: the byte after it."""

    value: Any
    names: dict[str, Name]
    tensors: int
    storages: dict[str, StorageRef]
    end: int


def unpickle(
    data: bytes, start: int = 0, *, storage_id_length: int = ZIP_STORAGE_ID, work: int = LIMITS.work
) -> Pickled:
    """Read one pickle as inert values. Raises ArchiveError: corrupt, unsafe, or unsupported where it is too large.

    work: the most steps that it may take.
    """
    stack = Stack(data, start, storage_id_length, work)
    try:
        value = _run(stack)
    except (IndexError, struct.error, ValueError, TypeError, OverflowError, RecursionError) as error:
        if stack.at + 4 > len(data) and isinstance(error, (IndexError, struct.error)):
            raise ArchiveError("corrupt", "the pickle ends before its stop code", incomplete=True) from None
        raise damaged(f"{type(error).__name__} at byte {stack.at}") from None
    return Pickled(value, stack.names, stack.tensors, stack.storages, stack.at)


def _run(stack: Stack) -> Any:
    """Execute opcodes until STOP. The commonest are inlined here: they are most of a real file."""
    data, top, memo, at = stack.data, stack.top, stack.memo, stack.at
    try:
        for _ in range(stack.work):
            code = data[at]
            at += 1
            if code == 0x71:  # BINPUT
                memo[data[at]] = top[-1]
                at += 1
            elif code == 0x72:  # LONG_BINPUT
                memo[_uint32(data, at)[0]] = top[-1]
                at += 4
            elif code == 0x68 and data[at] in memo:  # BINGET
                top.append(memo[data[at]])
                at += 1
            elif code == 0x6A and (index := _uint32(data, at)[0]) in memo:  # LONG_BINGET
                top.append(memo[index])
                at += 4
            elif code == 0x4B:  # BININT1
                top.append(data[at])
                at += 1
            elif code == 0x28:  # MARK
                stack.mark()
                top = stack.top
            elif code == 0x74:  # TUPLE
                items = tuple(stack.pop_mark())
                top = stack.top
                top.append(items)
            elif (op := TABLE[code]) is not None:
                stack.at = at
                op(stack)
                at, top = stack.at, stack.top
                if stack.done:
                    break
            else:
                raise damaged(f"unknown code {code} at byte {at - 1}")
        else:
            raise ArchiveError("unsupported", f"the pickle takes more than {stack.limit} steps to read")
    finally:
        stack.at = at
    if len(top) != 1 or stack.below:
        raise damaged("other values than its result are left at its end")
    return top[0]
