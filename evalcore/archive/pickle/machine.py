"""A pickle read as inert data: the opcodes' stack machine, with nothing in it that could call, import or look up.

Own machine instead of the standard unpickler, whose REDUCE, BUILD and APPEND call what the stack holds, whose memo is
an array that the file sizes, and whose keys the file may choose to collide. Opcodes: the standard `pickletools`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.rebuild import call
from evalcore.archive.pickle.values import Foreign, Name, StorageRef, TensorRef

MARK = object()
_MAX_KEY = (1 << 61) - 2  # integers from the hash modulus on can be made to collide
_uint32 = struct.Struct("<I").unpack_from
Op = Callable[["Machine"], None]


def damaged(reason: str) -> ArchiveError:
    return ArchiveError("corrupt", f"the pickle is damaged: {reason}")


def unpickle(data: bytes, start: int = 0) -> Pickled:
    """Read one pickle as inert values. Raises ArchiveError: corrupt, unsafe, or unsupported where it is too large."""
    machine = Machine(data, start)
    try:
        value = machine.run()
    except (IndexError, struct.error, ValueError, TypeError, OverflowError, RecursionError) as error:
        if machine.at + 4 > len(data) and isinstance(error, (IndexError, struct.error)):
            raise ArchiveError("corrupt", "the pickle ends before its stop code", incomplete=True) from None
        raise damaged(f"{type(error).__name__} at byte {machine.at}") from None
    return Pickled(value, machine.names, machine.tensors, machine.storages, machine.at)


class Pickled:
    """What a pickle holds. names: every class and function named in it; end: the byte after it."""

    __slots__ = ("end", "names", "storages", "tensors", "value")

    def __init__(
        self, value: Any, names: dict[str, Name], tensors: int, storages: dict[str, StorageRef], end: int
    ) -> None:
        self.value = value
        self.names = names
        self.tensors = tensors
        self.storages = storages
        self.end = end


class Machine:
    """One run over one pickle. `work` counts steps and copied items, and ends hostile ones."""

    __slots__ = ("at", "data", "done", "memo", "names", "stack", "storages", "tensors", "work")

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.at = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}
        self.storages: dict[str, StorageRef] = {}
        self.tensors = 0
        self.work = LIMITS.work
        self.done = False

    def run(self) -> Any:
        """Obey the codes until the stop code. The commonest stand here themselves: they are most of a real file."""
        from evalcore.archive.pickle.opcodes import TABLE  # the codes' own file needs this one's Machine

        data, stack, memo, at = self.data, self.stack, self.memo, self.at
        try:
            for _ in range(LIMITS.work):
                code = data[at]
                at += 1
                if code == 0x71:  # BINPUT
                    memo[data[at]] = stack[-1]
                    at += 1
                elif code == 0x72:  # LONG_BINPUT
                    memo[_uint32(data, at)[0]] = stack[-1]
                    at += 4
                elif code == 0x68 and data[at] in memo:  # BINGET
                    stack.append(memo[data[at]])
                    at += 1
                elif code == 0x6A and (index := _uint32(data, at)[0]) in memo:  # LONG_BINGET
                    stack.append(memo[index])
                    at += 4
                elif code == 0x4B:  # BININT1
                    stack.append(data[at])
                    at += 1
                elif code == 0x28:  # MARK
                    stack.append(MARK)
                elif code == 0x74:  # TUPLE
                    stack.append(tuple(self.pop_mark()))
                elif (op := TABLE[code]) is not None:
                    self.at = at
                    op(self)
                    at = self.at
                    if self.done:
                        break
                else:
                    raise damaged(f"unknown code {code} at byte {at - 1}")
            else:
                raise ArchiveError("unsupported", f"the pickle takes more than {LIMITS.work} steps to read")
        finally:
            self.at = at
        if len(stack) != 1:
            raise damaged(f"{len(stack)} values are left at its end")
        return stack[0]

    def spend(self, items: int) -> None:
        self.work -= items
        if self.work <= 0:
            raise ArchiveError("unsupported", f"the pickle takes more than {LIMITS.work} steps to read")

    def take(self, length: int) -> bytes:
        at = self.at
        if length < 0 or at + length > len(self.data):
            raise ArchiveError("corrupt", "the pickle ends inside a value", incomplete=True)
        self.at = at + length
        return self.data[at : at + length]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise ArchiveError("corrupt", "the pickle ends inside a line", incomplete=True)
        return self.take(end + 1 - self.at)[:-1]

    def pop_mark(self) -> list[Any]:
        stack = self.stack
        index = len(stack) - 1
        while stack[index] is not MARK:  # IndexError past the bottom: index turns negative and runs off
            index -= 1
            if index < 0:
                raise damaged("a mark is missing")
        items = stack[index + 1 :]
        del stack[index:]
        return items

    def name(self, module: str, attribute: str) -> Name:
        text = f"{module}.{attribute}"
        found = self.names.get(text)
        if found is None:
            if len(self.names) >= 10_000:
                raise ArchiveError("unsupported", "the pickle names more than 10,000 classes")
            found = self.names[text] = Name(text)
        return found

    def call(self, function: Any, args: Any) -> Any:
        if isinstance(args, tuple):
            self.spend(len(args))
            for item in args:  # what may be copied is paid for
                if isinstance(item, (list, str)):
                    self.spend(len(item) if isinstance(item, list) else len(item) // 16)
        value = call(function, args)
        if isinstance(value, TensorRef):
            self.tensors += 1
        elif isinstance(value, list):  # the pairs of a mapping
            value = self.mapping(value)
        return value

    def mapping(self, pairs: list[Any]) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise damaged("a mapping is made of something else than pairs")
            made[key_of(pair[0])] = pair[1]
        return made

    def set_items(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise damaged("a key has no value")
        if isinstance(target, dict):
            for i in range(0, len(items), 2):
                target[key_of(items[i])] = items[i + 1]
        elif isinstance(target, (TensorRef, Name)):
            what = "a tensor" if isinstance(target, TensorRef) else shown(target.text)
            raise ArchiveError("unsafe", f"the pickle sets an item on {what}, which no saving program does")
        elif not isinstance(target, Foreign):
            raise damaged("an item is set on something that is no mapping")

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, TensorRef):
            raise ArchiveError("unsafe", "the pickle appends to a tensor, which no saving program does")
        elif not isinstance(target, Foreign):
            raise damaged("an item is appended to something that is no list")


def key_of(key: Any) -> Any:
    """The key itself where its hash is harmless, else a text for it: a tuple's hash recurses, large numbers collide."""
    if type(key) in (str, bytes, bool, float, type(None), Name):
        return key
    if type(key) is int:
        return key if -_MAX_KEY < key < _MAX_KEY else hex(key)
    if type(key) is tuple and len(key) <= 8 and all(type(k) in (str, int, bool, float, type(None)) for k in key):
        return repr(
            tuple(shown(k) if isinstance(k, str) else hex(k) if type(k) is int and abs(k) > 9e9 else k for k in key)
        )
    if type(key) is list or isinstance(key, dict):
        raise damaged("a list or mapping is used as a key")
    return f"<{type(key).__name__} {id(key):x}>"
