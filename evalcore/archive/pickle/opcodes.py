"""The pickle opcodes: what each does to the inert machine's stack and memo. Codes as in the standard `pickletools`.

Where torch's restricted unpickler is stricter than the standard one, so is this: only lists are appended to, and only
mappings with attributes, and objects that are not made, take a state.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.rebuild import call, make_object
from evalcore.archive.pickle.stack import Stack, damaged
from evalcore.archive.pickle.tensors import storage_of
from evalcore.archive.pickle.values import InertObject, InertTensor, Name, OrderedMapping, StorageRef, TensorRef

Op = Callable[[Stack], None]


def _int_line(m: Stack) -> Any:
    text = m.line()
    if text in (b"00", b"01"):
        return text == b"01"
    return _decimal(text)


def _long_line(m: Stack) -> int:
    return _decimal(m.line().rstrip(b"L"))


def _decimal(text: bytes) -> int:
    if len(text) > 2 * LIMITS.integer_bytes:
        raise ArchiveError("unsupported", f"the pickle holds an integer of {len(text)} digits")
    return int(text)


def _string_line(m: Stack) -> str:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise damaged("a quoted string lacks its quotes")
    return _text(codecs.escape_decode(text[1:-1])[0])  # type: ignore[attr-defined]


def _text(data: bytes) -> str:
    """A byte string of Python 2, read as torch.load reads it."""
    return data.decode("utf-8")


def _u(m: Stack, length: int) -> int:
    return int.from_bytes(m.take(length), "little")


def _utf8(m: Stack, width: int) -> str:
    return m.take(_u(m, width)).decode("utf-8", "surrogatepass")


def _long(m: Stack, width: int) -> int:
    length = int.from_bytes(m.take(width), "little", signed=width == 4)
    if length > LIMITS.integer_bytes:
        raise ArchiveError("unsupported", f"the pickle holds an integer of {length} bytes")
    return int.from_bytes(m.take(length), "little", signed=True)


def _push(make: Callable[[Stack], Any]) -> Op:
    def op(m: Stack) -> None:
        value = make(m)  # it may replace m.top
        m.top.append(value)

    return op


def _binput(m: Stack) -> None:
    m.memo[m.data[m.at]] = m.top[-1]
    m.at += 1


def _long_binput(m: Stack) -> None:
    m.memo[_u(m, 4)] = m.top[-1]


def _put(m: Stack) -> None:
    m.memo[int(m.line())] = m.top[-1]


def _memoize(m: Stack) -> None:
    m.memo[len(m.memo)] = m.top[-1]


def _recall(m: Stack, index: int) -> None:
    if index not in m.memo:
        raise damaged(f"it recalls a value {index} that it never kept")
    m.top.append(m.memo[index])


def _binget(m: Stack) -> None:
    m.top.append(m.memo[m.data[m.at]]) if m.data[m.at] in m.memo else _recall(m, -1)
    m.at += 1


def _tuple(m: Stack) -> None:
    items = tuple(m.pop_mark())
    m.top.append(items)


def _last(count: int) -> Op:
    def op(m: Stack) -> None:
        items = tuple(m.top[-count:])
        if len(items) < count:
            raise damaged("a tuple lacks items")
        m.top[-count:] = [items]

    return op


def _pop(m: Stack) -> None:
    if m.top:
        m.top.pop()
    else:  # as the standard unpickler: the mark itself is popped
        m.pop_mark()


def _pop_mark(m: Stack) -> None:
    m.pop_mark()


def _append(m: Stack) -> None:
    item = m.top.pop()
    m.extend(m.top[-1], [item])


def _appends(m: Stack) -> None:
    items = m.pop_mark()
    m.extend(m.top[-1], items)


def _additems(m: Stack) -> None:
    items = m.pop_mark()
    target = m.top[-1]
    members = target.args[0] if isinstance(target, InertObject) and type(target.args) is tuple and target.args else None
    if not isinstance(members, list) or target.class_name != "builtins.set":
        raise damaged("an item is added to something that is not a set")
    members.extend(items)


def _setitem(m: Stack) -> None:
    value, key = m.top.pop(), m.top.pop()
    m.set_items(m.top[-1], [key, value])


def _setitems(m: Stack) -> None:
    items = m.pop_mark()
    m.set_items(m.top[-1], items)


def _dict(m: Stack) -> None:
    made: dict[Any, Any] = {}
    m.set_items(made, m.pop_mark())
    m.top.append(made)


def _global(m: Stack) -> None:
    module = m.line().decode("utf-8")
    m.top.append(m.name(module, m.line().decode("utf-8")))


def _stack_global(m: Stack) -> None:
    attribute, module = m.top.pop(), m.top.pop()
    if not isinstance(attribute, str) or not isinstance(module, str):
        raise damaged("a class is named by something that is not text")
    m.top.append(m.name(module, attribute))


def _reduce(m: Stack) -> None:
    args = m.top.pop()
    m.top[-1] = call(m, m.top[-1], args)


def _newobj(m: Stack) -> None:
    args = m.top.pop()
    m.top[-1] = make_object(m.top[-1], args)


def _newobj_ex(m: Stack) -> None:
    keywords, args, cls = m.top.pop(), m.top.pop(), m.top.pop()
    m.top.append(InertObject(_name_of(cls), (args, keywords)))


def _inst(m: Stack) -> None:
    _global(m)
    name = m.top.pop()
    args = tuple(m.pop_mark())
    m.top.append(InertObject(name.text, args))


def _obj(m: Stack) -> None:
    items = m.pop_mark()
    m.top.append(InertObject(_name_of(items[0]), tuple(items[1:])))


def _name_of(value: Any) -> str:
    if not isinstance(value, Name):
        raise damaged("an object is made of something that is not a class")
    return value.text


def _build(m: Stack) -> None:
    state = m.top.pop()
    target = m.top[-1]
    if isinstance(target, (TensorRef, InertTensor)):  # torch would replace the tensor's values by those of the state
        raise ArchiveError("unsafe", "the pickle sets the state of a tensor, which torch.save never writes")
    if isinstance(target, InertObject) and not target.closed:
        target.state = state
    elif isinstance(target, OrderedMapping):
        if not isinstance(state, dict):
            raise damaged("the attributes of a mapping are no mapping")
    else:
        raise ArchiveError("unsafe", "the pickle sets the state of something that has none")


def _persistent(m: Stack, pid: Any) -> Any:
    storage = storage_of(pid, m.storage_id_length)
    if isinstance(storage, StorageRef):
        earlier = m.storages.setdefault(storage.key, storage)
        if earlier != storage and (earlier.size_bytes or storage.size_bytes):  # torch shares empty ones among dtypes
            raise damaged(f"storage {shown(storage.key)} is described in two ways")
    return storage


def _items_to_object(name: str) -> Op:
    def op(m: Stack) -> None:
        items = m.pop_mark()
        m.top.append(InertObject(name, (items,)))

    return op


def _refuse(what: str) -> Op:
    def op(m: Stack) -> None:
        raise ArchiveError("unsafe", f"the pickle uses {what}, which torch.save never writes")

    return op


def _proto(m: Stack) -> None:
    if _u(m, 1) > 5:
        raise damaged("its protocol is newer than 5")


def _stop(m: Stack) -> None:
    m.done = True


def _dup(m: Stack) -> None:
    m.top.append(m.top[-1])


def _frame(m: Stack) -> None:
    m.take(8)


_OPS: dict[bytes, Op] = {
    b"\x80": _proto, b"\x95": _frame, b".": _stop, b"0": _pop, b"1": _pop_mark, b"2": _dup,
    b"(": lambda m: m.mark(), b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True), b"\x89": _push(lambda m: False),
    b"I": _push(_int_line), b"L": _push(_long_line), b"F": _push(lambda m: float(m.line())),
    b"K": _push(lambda m: _u(m, 1)), b"M": _push(lambda m: _u(m, 2)),
    b"J": _push(lambda m: struct.unpack("<i", m.take(4))[0]),
    b"G": _push(lambda m: struct.unpack(">d", m.take(8))[0]),
    b"\x8a": _push(lambda m: _long(m, 1)), b"\x8b": _push(lambda m: _long(m, 4)),
    b"S": _push(_string_line), b"V": _push(lambda m: m.line().decode("raw-unicode-escape")),
    b"U": _push(lambda m: _text(m.take(_u(m, 1)))),
    b"T": _push(lambda m: _text(m.take(_u(m, 4)))),
    b"X": _push(lambda m: _utf8(m, 4)), b"\x8c": _push(lambda m: _utf8(m, 1)), b"\x8d": _push(lambda m: _utf8(m, 8)),
    b"B": _push(lambda m: m.take(_u(m, 4))), b"C": _push(lambda m: m.take(_u(m, 1))),
    b"\x8e": _push(lambda m: m.take(_u(m, 8))), b"\x96": _push(lambda m: m.take(_u(m, 8))),
    b"]": _push(lambda m: []), b"}": _push(lambda m: {}), b")": _push(lambda m: ()),
    b"\x8f": _push(lambda m: InertObject("builtins.set", ([],))), b"\x90": _additems,
    b"\x91": _items_to_object("builtins.frozenset"),
    b"l": _push(lambda m: m.pop_mark()), b"t": _tuple, b"d": _dict,
    b"\x85": _last(1), b"\x86": _last(2), b"\x87": _last(3),
    b"a": _append, b"e": _appends, b"s": _setitem, b"u": _setitems,
    b"q": _binput, b"r": _long_binput, b"p": _put, b"\x94": _memoize,
    b"h": _binget, b"j": lambda m: _recall(m, _u(m, 4)), b"g": lambda m: _recall(m, int(m.line())),
    b"c": _global, b"\x93": _stack_global, b"R": _reduce, b"i": _inst, b"o": _obj,
    b"\x81": _newobj, b"\x92": _newobj_ex, b"b": _build,
    b"Q": lambda m: m.top.append(_persistent(m, m.top.pop())),
    b"P": lambda m: m.top.append(_persistent(m, m.line().decode("latin-1"))),
    b"\x82": _refuse("an extension code"), b"\x83": _refuse("an extension code"),
    b"\x84": _refuse("an extension code"), b"\x97": _refuse("an out-of-band buffer"), b"\x98": lambda m: None,
}  # fmt: skip
TABLE: list[Op | None] = [_OPS.get(bytes([code])) for code in range(256)]
