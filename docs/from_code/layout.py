"""The repository layout: every package and module with the first sentence of its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.from_code.markdown import NotInTheCode, code, generated, table

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("watcher", "evalcore")
_ABOUT = """
Every module of the two packages, with the first sentence of its docstring. `watcher` is the daemon and the command line
and never imports torch; `evalcore` computes the numbers. Which package may import which is a table in
`tests/test_architecture.py`.
"""


def page() -> str:
    """One section per package. Raises NotInTheCode for a module without a docstring."""
    parts = [generated("Repository layout", "the docstrings of watcher and evalcore", _ABOUT)]
    for folder in folders():
        name = folder.relative_to(ROOT).as_posix()
        parts.append(f"## {name}\n\n{sentence(folder / '__init__.py')}\n")
        rows = [
            (code(file.name), sentence(file))
            for file in sorted(folder.glob("*.py"))
            if file.name not in ("__init__.py",)
        ]
        if rows:
            parts.append(table(["file", "content"], rows))
    return "\n".join(parts)


def folders() -> Iterator[Path]:
    """Every package folder, parents first."""
    for package in PACKAGES:
        yield from sorted(file.parent for file in (ROOT / package).rglob("__init__.py"))


def sentence(file: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not text and file.name == "__init__.py":
        return ""  # a package without a sentence of its own still lists its modules
    if not text:
        raise NotInTheCode(f"{file.relative_to(ROOT)} has no docstring")
    paragraph = " ".join(text.split("\n\n")[0].split())
    first = re.match(r".*?(?<!\.\.)[.?!](?=\s|$)", paragraph)
    return first[0] if first else paragraph
