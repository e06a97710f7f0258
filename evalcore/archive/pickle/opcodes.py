"""The pickle opcodes: what each does to the inert machine's stack and memo. Codes as in the standard `pickletools`."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from evalcore.archive.errors import ArchiveError, shown
from evalcore.archive.pickle.machine import MARK, Machine, Op, damaged
from evalcore.archive.pickle.rebuild import persistent
from evalcore.archive.pickle.values import Foreign, Name, StorageRef, TensorRef


def _int_line(m: Machine) -> Any:
    text = m.line()
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text)


def _long_line(m: Machine) -> int:
    return int(m.line().rstrip(b"L"))


def _string_line(m: Machine) -> str:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise damaged("a quoted string lacks its quotes")
    return codecs.escape_decode(text[1:-1])[0].decode("latin-1")  # type: ignore[attr-defined]


def _u(m: Machine, length: int) -> int:
    return int.from_bytes(m.take(length), "little")


def _utf8(m: Machine, width: int) -> str:
    return m.take(_u(m, width)).decode("utf-8", "surrogatepass")


def _long(m: Machine, width: int) -> int:
    return int.from_bytes(m.take(int.from_bytes(m.take(width), "little", signed=width == 4)), "little", signed=True)


def _push(make: Callable[[Machine], Any]) -> Op:
    def op(m: Machine) -> None:
        m.stack.append(make(m))

    return op


def _binput(m: Machine) -> None:
    m.memo[m.data[m.at]] = m.stack[-1]
    m.at += 1


def _long_binput(m: Machine) -> None:
    m.memo[_u(m, 4)] = m.stack[-1]


def _put(m: Machine) -> None:
    m.memo[int(m.line())] = m.stack[-1]


def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _recall(m: Machine, index: int) -> None:
    if index not in m.memo:
        raise damaged(f"it recalls a value {index} that it never kept")
    m.stack.append(m.memo[index])


def _binget(m: Machine) -> None:
    m.stack.append(m.memo[m.data[m.at]]) if m.data[m.at] in m.memo else _recall(m, -1)
    m.at += 1


def _tuple(m: Machine) -> None:
    m.stack.append(tuple(m.pop_mark()))


def _last(count: int) -> Op:
    def op(m: Machine) -> None:
        items = tuple(m.stack[-count:])
        if len(items) < count:
            raise damaged("a tuple lacks items")
        m.stack[-count:] = [items]

    return op


def _pop(m: Machine) -> None:
    m.stack.pop()


def _pop_mark(m: Machine) -> None:
    m.pop_mark()


def _append(m: Machine) -> None:
    item = m.stack.pop()
    m.extend(m.stack[-1], [item])


def _appends(m: Machine) -> None:
    items = m.pop_mark()
    m.extend(m.stack[-1], items)


def _setitem(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items(m.stack[-1], [key, value])


def _setitems(m: Machine) -> None:
    items = m.pop_mark()
    m.set_items(m.stack[-1], items)


def _dict(m: Machine) -> None:
    made: dict[Any, Any] = {}
    m.set_items(made, m.pop_mark())
    m.stack.append(made)


def _global(m: Machine) -> None:
    module = m.line().decode("utf-8", "surrogateescape")
    m.stack.append(m.name(module, m.line().decode("utf-8", "surrogateescape")))


def _stack_global(m: Machine) -> None:
    attribute, module = m.stack.pop(), m.stack.pop()
    if not isinstance(attribute, str) or not isinstance(module, str):
        raise damaged("a class is named by something that is no text")
    m.stack.append(m.name(module, attribute))


def _reduce(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _newobj_ex(m: Machine) -> None:
    keywords, args, cls = m.stack.pop(), m.stack.pop(), m.stack.pop()
    m.stack.append(Foreign(_name_of(cls), (args, keywords)))


def _newobj(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _inst(m: Machine) -> None:
    _global(m)
    name = m.stack.pop()
    m.stack.append(Foreign(name.text, tuple(m.pop_mark())))


def _obj(m: Machine) -> None:
    items = m.pop_mark()
    m.stack.append(Foreign(_name_of(items[0]), tuple(items[1:])))


def _name_of(value: Any) -> str:
    if not isinstance(value, Name):
        raise damaged("an object is made of something that is no class")
    return value.text


def _build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, Foreign):
        target.state = state
    elif isinstance(target, (dict, TensorRef)):  # attributes of an OrderedDict (_metadata) or of a tensor: not needed
        return
    else:
        raise ArchiveError("unsafe", "the pickle sets the state of something that has none")


def _persistent(m: Machine) -> None:
    found = m.stack[-1] = persistent(m.stack[-1])
    if isinstance(found, StorageRef):
        earlier = m.storages.setdefault(found.key, found)
        if earlier is not found and (earlier.size_bytes, earlier.dtype) != (found.size_bytes, found.dtype):
            raise damaged(f"storage {shown(found.key)} is described in two ways")


def _items_to_foreign(name: str) -> Op:
    def op(m: Machine) -> None:
        m.stack.append(Foreign(name, (m.pop_mark(),)))

    return op


def _refuse(what: str) -> Op:
    def op(m: Machine) -> None:
        raise ArchiveError("unsafe", f"the pickle uses {what}, which torch.save never writes")

    return op


def _proto(m: Machine) -> None:
    if _u(m, 1) > 5:
        raise damaged("its protocol is newer than 5")


def _stop(m: Machine) -> None:
    m.done = True


def _dup(m: Machine) -> None:
    m.stack.append(m.stack[-1])


def _frame(m: Machine) -> None:
    m.take(8)


_OPS: dict[bytes, Op] = {
    b"\x80": _proto, b"\x95": _frame, b".": _stop, b"0": _pop, b"1": _pop_mark, b"2": _dup,
    b"(": _push(lambda m: MARK), b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True), b"\x89": _push(lambda m: False),
    b"I": _push(_int_line), b"L": _push(_long_line), b"F": _push(lambda m: float(m.line())),
    b"K": _push(lambda m: _u(m, 1)), b"M": _push(lambda m: _u(m, 2)),
    b"J": _push(lambda m: struct.unpack("<i", m.take(4))[0]),
    b"G": _push(lambda m: struct.unpack(">d", m.take(8))[0]),
    b"\x8a": _push(lambda m: _long(m, 1)), b"\x8b": _push(lambda m: _long(m, 4)),
    b"S": _push(_string_line), b"V": _push(lambda m: m.line().decode("raw-unicode-escape")),
    b"U": _push(lambda m: m.take(_u(m, 1)).decode("latin-1")),
    b"T": _push(lambda m: m.take(_u(m, 4)).decode("latin-1")),
    b"X": _push(lambda m: _utf8(m, 4)), b"\x8c": _push(lambda m: _utf8(m, 1)), b"\x8d": _push(lambda m: _utf8(m, 8)),
    b"B": _push(lambda m: m.take(_u(m, 4))), b"C": _push(lambda m: m.take(_u(m, 1))),
    b"\x8e": _push(lambda m: m.take(_u(m, 8))), b"\x96": _push(lambda m: m.take(_u(m, 8))),
    b"]": _push(lambda m: []), b"}": _push(lambda m: {}), b")": _push(lambda m: ()),
    b"\x8f": _push(lambda m: Foreign("builtins.set", ([],))), b"\x90": _appends,
    b"\x91": _items_to_foreign("builtins.frozenset"),
    b"l": _push(lambda m: m.pop_mark()), b"t": _tuple, b"d": _dict,
    b"\x85": _last(1), b"\x86": _last(2), b"\x87": _last(3),
    b"a": _append, b"e": _appends, b"s": _setitem, b"u": _setitems,
    b"q": _binput, b"r": _long_binput, b"p": _put, b"\x94": _memoize,
    b"h": _binget, b"j": lambda m: _recall(m, _u(m, 4)), b"g": lambda m: _recall(m, int(m.line())),
    b"c": _global, b"\x93": _stack_global, b"R": _reduce, b"i": _inst, b"o": _obj,
    b"\x81": _newobj, b"\x92": _newobj_ex, b"b": _build, b"Q": _persistent,
    b"P": lambda m: m.stack.append(persistent(m.line().decode("latin-1"))),
    b"\x82": _refuse("an extension code"), b"\x83": _refuse("an extension code"),
    b"\x84": _refuse("an extension code"), b"\x97": _refuse("an out-of-band buffer"), b"\x98": lambda m: None,
}  # fmt: skip
TABLE: list[Op | None] = [_OPS.get(bytes([code])) for code in range(256)]
