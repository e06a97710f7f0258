"""A hook of the site generator: pages that mkdocs.yml does not list come at the end of their folder's section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTIONS = {"how-to": "How to", "reference": "Reference", "explanation": "Explanation"}


def on_config(config: Any) -> Any:
    """Called by mkdocs before it looks at the pages."""
    complete(config["nav"], Path(config["docs_dir"]))
    return config


def complete(nav: list[Any], docs: Path) -> None:
    """Add to `nav`, in place, what it lacks of the pages below `docs`."""
    listed = set(_pages(nav))
    for page in sorted(docs.rglob("*.md")):
        name = page.relative_to(docs).as_posix()
        if name not in listed:
            section = SECTIONS.get(name.partition("/")[0])
            place = next((entry[section] for entry in nav if isinstance(entry, dict) and section in entry), nav)
            place.append(name)


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in _pages(entry)]
