"""The model digest: everything outside the checkpoint file that affects the model. Standard library only.

Owns which facts count. The payload's own configuration does not: it is part of the file, whose content has a digest of
its own. Never imports a factory: its code is found and read as text.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalcore.archive.summary import Summary
    from evalcore.messages import ModelSpec

#: Bounds on a factory's package: beyond them, size and modification time count instead of the content.
_FILES_MAX = 5_000
_BYTES_MAX = 64 << 20


def model_digest(summary: Summary, model: ModelSpec) -> str:
    """`sha256:...` of sidecar configuration, `[model]` settings, factory code, family and what was assumed.

    It is the same for all self-describing files of one family when there are no `[model]` settings.
    """
    facts: dict[str, object] = {"family": summary.family}
    if summary.sidecars:
        facts["sidecars"] = sorted(digest for _, digest in summary.sidecars)
    if summary.assumed:
        facts["assumed"] = sorted(summary.assumed)
    for name in ("factory", "factory_digest", "config", "state"):
        value = getattr(model, name)
        if value:
            facts[name] = value
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def factory_digest(factory: str | None, python_path: Iterable[str] = ()) -> str:
    """`sha256:...` of the code that `package.module:function` names; "" without a factory or where none is found.

    All .py files of its top-level package, or of its module and the modules beside it that are imported from there.
    """
    top = (factory or "").partition(":")[0].partition(".")[0]
    folders = [os.fspath(folder) for folder in python_path]
    spec = importlib.machinery.PathFinder.find_spec(top, [*folders, *sys.path]) if top else None
    if spec is None:
        return ""
    if spec.submodule_search_locations:
        roots = list(spec.submodule_search_locations)
        files = [(os.path.relpath(path, root), path) for root in roots for path in _package_files(root)]
    elif spec.origin and spec.origin.endswith(".py"):
        files = [(os.path.basename(path), path) for path in _with_siblings(spec.origin, folders)]
    else:
        files = [(top, spec.origin)] if spec.origin and os.path.isfile(spec.origin) else []
    return _digest_of(sorted(files)) if files else ""


def _package_files(root: str) -> list[str]:
    files: list[str] = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name != "__pycache__" and not name.startswith("."))
        files += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]
    return files


def _with_siblings(origin: str, folders: list[str]) -> list[str]:
    """The module, and what it imports from its own folder or from python_path, followed to the end."""
    places = [os.path.dirname(origin), *folders]
    pending, seen = [origin], {origin: None}
    while pending and len(seen) < _FILES_MAX:
        for name in _imported(pending.pop()):
            for place in places:
                module, package = os.path.join(place, f"{name}.py"), os.path.join(place, name)
                more = [module] if os.path.isfile(module) else _package_files(package) if os.path.isdir(package) else []
                fresh = [path for path in more if path not in seen]
                seen.update(dict.fromkeys(fresh))
                pending += fresh
                if more:
                    break
    return list(seen)


def _imported(path: str) -> set[str]:
    """Top-level names that the file imports anywhere; none where it cannot be parsed."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _digest_of(files: list[tuple[str, str]]) -> str:
    whole, left = hashlib.sha256(), _BYTES_MAX
    for number, (name, path) in enumerate(files):
        whole.update(json.dumps(name).encode())
        try:
            status = os.stat(path)
            left -= status.st_size
            if number < _FILES_MAX and left >= 0:
                with open(path, "rb") as file:
                    whole.update(hashlib.sha256(file.read()).digest())
            else:
                whole.update(f"{status.st_size}:{status.st_mtime_ns}".encode())
        except OSError as error:
            whole.update(f"unreadable:{error.errno}".encode())
    return "sha256:" + whole.hexdigest()
