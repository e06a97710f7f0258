"""The few pieces of Markdown that the generated pages are made of. Pure."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence


class NotInTheCode(Exception):
    """What a page should say cannot be read from the code; the message names where it should stand."""


def generated(title: str, source: str, about: str) -> str:
    """The head of a generated page. source: the module whose words these are."""
    return (
        f"# {title}\n\n"
        f"<!-- Generated from {source} by `python -m docs.generate`. Change the code, not this page. -->\n\n"
        f"{textwrap.dedent(about).strip()}\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; bars and line ends in cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(value: object) -> str:
    """Inline code; nothing for an empty value."""
    return f"`{value}`" if str(value) else ""


def first_paragraph(documented: object) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
