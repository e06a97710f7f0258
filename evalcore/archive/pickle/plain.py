"""Inert values as plain ones: dicts, lists, text and numbers that JSON can hold, bounded in size and depth."""

from __future__ import annotations

from itertools import islice
from typing import Any

from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.pickle.numpy_values import number_of_array
from evalcore.archive.pickle.values import InertObject, Name, TensorRef

_DEPTH = 12
_PATHS = (
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib.Path",
)


def plain(value: Any) -> Any:
    """A plain copy: objects become their fields, classes their names; what nests too deep or is too much is cut."""
    return _Copy().plain(value, _DEPTH)


class _Copy:
    """One copy and what it may still hold, in values and in characters: a value may appear any number of times."""

    def __init__(self) -> None:
        self.items = LIMITS.config_items
        self.chars = LIMITS.config_chars

    def plain(self, value: Any, depth: int) -> Any:
        self.items -= 1
        if value is None or type(value) in (bool, float):
            return value
        if type(value) is int:
            return value if abs(value) < 1 << 63 else shown(hex(value))
        if isinstance(value, str):
            return self._text(value)
        if depth == 0 or self.items <= 0 or self.chars <= 0:
            return "..."
        if isinstance(value, dict):
            pairs = list(islice(value.items(), max(self.items, 0)))
            return {self._key(key): self.plain(item, depth - 1) for key, item in pairs if self.chars > 0}
        if isinstance(value, (list, tuple)):
            return [self.plain(item, depth - 1) for item in value[: max(self.items, 0)]]
        if isinstance(value, Name):
            return shown(value.text, 200)
        if isinstance(value, TensorRef):
            return f"<tensor {value.dtype} {list(value.shape)}>"
        if isinstance(value, InertObject):
            return self._object(value, depth)
        return f"<{type(value).__name__}>"

    def _object(self, value: InertObject, depth: int) -> Any:
        if value.class_name in _PATHS and isinstance(value.args, tuple):
            return "/".join(shown(part, 400) for part in value.args[:64] if isinstance(part, str)).replace("//", "/")
        number = number_of_array(value)
        if number is not None:
            return number
        fields = value.fields()
        if fields:
            return self.plain(fields, depth)
        single = value.args[0] if isinstance(value.args, tuple) and len(value.args) == 1 else None
        if type(single) in (str, int, float, bool):  # an enum member, a torch.device
            return self.plain(single, depth)
        return f"<{shown(value.class_name, 120)}>"

    def _text(self, text: str) -> str:
        kept = text if len(text) <= 10_000 else text[:10_000] + "..."
        self.chars -= len(kept)
        if not kept.isascii():  # a lone surrogate cannot be stored or printed
            kept = kept.encode("utf-8", "backslashreplace").decode("utf-8")
        return kept if self.chars >= 0 else "..."

    def _key(self, key: Any) -> str:
        text = shown(key, 400) if isinstance(key, (str, int, float, bool, type(None))) else "<key>"
        self.chars -= len(text)
        return text
