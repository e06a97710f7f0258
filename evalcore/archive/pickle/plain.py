"""Inert values as plain ones: dicts, lists, text and numbers that JSON can hold, bounded in size and depth."""

from __future__ import annotations

from typing import Any

from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.pickle.values import Foreign, Name, TensorRef

_DEPTH = 12
_PATHS = (
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib.Path",
)


def plain(value: Any) -> Any:
    """A plain copy: objects become their fields, classes their names; what lies too deep or is too much is cut."""
    return _plain(value, _DEPTH, [LIMITS.config_items])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if value is None or type(value) in (bool, float):
        return value
    if type(value) is int:
        return value if abs(value) < 1 << 63 else shown(hex(value))
    if isinstance(value, str):
        return value if len(value) <= 10_000 else value[:10_000] + "..."
    if depth == 0 or left[0] <= 0:
        return "..."
    if isinstance(value, dict):
        pairs = list(value.items())[: max(left[0], 0)]
        return {_key(key): _plain(item, depth - 1, left) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1, left) for item in value[: max(left[0], 0)]]
    if isinstance(value, Name):
        return shown(value.text, 200)
    if isinstance(value, TensorRef):
        return f"<tensor {value.dtype} {list(value.shape)}>"
    if isinstance(value, Foreign):
        return _object(value, depth, left)
    return f"<{type(value).__name__}>"


def _object(value: Foreign, depth: int, left: list[int]) -> Any:
    if value.name in _PATHS and isinstance(value.args, tuple):
        return "/".join(shown(part, 400) for part in value.args if isinstance(part, str)).replace("//", "/")
    fields = value.fields()
    if fields:
        return _plain(fields, depth, left)
    single = value.args[0] if isinstance(value.args, tuple) and len(value.args) == 1 else None
    if type(single) in (str, int, float, bool):  # an enum member, a torch.device
        return _plain(single, depth, left)
    return f"<{shown(value.name, 120)}>"


def _key(key: Any) -> str:
    return shown(key, 400) if isinstance(key, (str, int, float, bool, type(None))) else "<key>"
