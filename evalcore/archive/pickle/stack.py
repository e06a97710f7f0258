"""The state of one run over a pickle: bytes, stack, marks and memo. Knows no opcode, and calls nothing.

The stack is cut at each mark, as torch's own restricted unpickler does it: what lies below a mark cannot be reached.
"""

from __future__ import annotations

from typing import Any

from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.values import InertObject, InertTensor, Name, OrderedMapping, StorageRef, TensorRef

_MAX_KEY = (1 << 61) - 2  # integers from the hash modulus on can be made to collide


def damaged(reason: str) -> ArchiveError:
    return ArchiveError("corrupt", f"the pickle is damaged: {reason}")


class Stack:
    """What the opcodes work on. `work` counts steps and copied items, and ends hostile pickles."""

    __slots__ = (
        *("at", "below", "data", "done", "limit", "memo", "names", "storage_id_length", "storages", "tensors", "top"),
        "work",
    )

    def __init__(self, data: bytes, start: int, storage_id_length: int, work: int = LIMITS.work) -> None:
        self.data = data
        self.at = start
        self.top: list[Any] = []  # the values above the last mark
        self.below: list[list[Any]] = []  # what each mark cut off
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}
        self.storages: dict[str, StorageRef] = {}
        self.storage_id_length = storage_id_length
        self.tensors = 0
        self.work = self.limit = work
        self.done = False

    def spend(self, items: int) -> None:
        """Count `items` more steps. Raises ArchiveError `unsupported` beyond the limit."""
        self.work -= items
        if self.work <= 0:
            raise ArchiveError("unsupported", f"the pickle takes more than {self.limit} steps to read")

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

    def mark(self) -> None:
        self.below.append(self.top)
        self.top = []

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, which is removed."""
        if not self.below:
            raise damaged("a mark is missing")
        items, self.top = self.top, self.below.pop()
        return items

    def name(self, module: str, attribute: str) -> Name:
        """The class or function of that name; one object for each name."""
        text = f"{module}.{attribute}"
        name = self.names.get(text)
        if name is None:
            if len(self.names) >= LIMITS.names or len(text) > LIMITS.name_chars:
                bounds = f"{LIMITS.names} classes, or one of over {LIMITS.name_chars} characters"
                raise ArchiveError("unsupported", f"the pickle names more than {bounds}")
            name = self.names[text] = Name(text)
        return name

    def mapping(self, source: Any) -> OrderedMapping:
        """A new mapping from another one or from a list or tuple of pairs."""
        made = OrderedMapping()
        if isinstance(source, dict):
            self.spend(len(source))
            made.update(source)
            return made
        if not isinstance(source, (list, tuple)):
            raise damaged("a mapping is made of something else than pairs")
        self.spend(len(source))
        for pair in source:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise damaged("a mapping is made of something else than pairs")
            made[self.key_of(pair[0])] = pair[1]
        return made

    def set_items(self, target: Any, items: list[Any]) -> None:
        """Set keys and values, which alternate in `items`, on a mapping or on an object that was not made."""
        if len(items) % 2:
            raise damaged("a key has no value")
        if isinstance(target, InertObject) and not target.closed:
            if target.items is None:
                target.items = {}
            target = target.items
        if isinstance(target, dict):
            for i in range(0, len(items), 2):
                target[self.key_of(items[i])] = items[i + 1]
        elif isinstance(target, (TensorRef, InertTensor, Name)):
            what = shown(target.text) if isinstance(target, Name) else "a tensor"
            raise ArchiveError("unsafe", f"the pickle sets an item on {what}, which no saving program does")
        else:
            raise damaged("an item is set on something that is not a mapping")

    def key_of(self, key: Any) -> Any:
        """The key itself where its hash is harmless, else a stand-in: tuples' hashes recurse, large numbers collide."""
        if type(key) in (str, bytes, bool, float, type(None), Name):
            return key
        if type(key) is int:
            return key if -_MAX_KEY < key < _MAX_KEY else StandInKey(("int", hex(key)))
        if type(key) is tuple and len(key) <= 8 and all(_is_short(k) for k in key):
            return StandInKey(tuple(k if isinstance(k, (str, type(None))) else _number(k) for k in key))
        self._demand_hashable(key)
        return StandInKey((type(key).__name__, hex(id(key))), key)  # each is a key of its own, as tensors are

    def _demand_hashable(self, key: Any) -> None:
        todo, seen = [key], {id(key)}
        while todo:
            part = todo.pop()
            if isinstance(part, (list, dict)):
                raise damaged("a list or mapping is used as a key")
            if isinstance(part, tuple):
                self.spend(len(part))
                fresh = [inner for inner in part if id(inner) not in seen]
                seen.update(map(id, fresh))
                todo += fresh

    def extend(self, target: Any, items: list[Any]) -> None:
        """Append to a list or to an object that was not made."""
        if isinstance(target, InertObject) and not target.closed:
            if target.appended is None:
                target.appended = []
            target = target.appended
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, (TensorRef, InertTensor)):
            raise ArchiveError("unsafe", "the pickle appends to a tensor, which no saving program does")
        else:
            raise damaged("an item is appended to something that is not a list")


def _is_short(part: Any) -> bool:
    return type(part) in (int, bool, float, type(None)) or (type(part) is str and len(part) <= 200)


def _number(value: float) -> tuple[str, str]:
    """Equal numbers give equal texts, whatever their type: 1, 1.0 and True are one key."""
    if isinstance(value, float) and not value.is_integer():
        return "float", repr(value)
    return "number", hex(int(value))


class StandInKey:
    """A key that stands for one whose hash is not trusted; equal to its like only, never to a text."""

    __slots__ = ("source", "text")

    def __init__(self, parts: tuple[Any, ...], source: Any = None) -> None:
        self.text = repr(parts)
        self.source = source  # kept alive, so that no other object gets its id

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandInKey) and other.text == self.text

    def __repr__(self) -> str:
        return shown(self.text)
