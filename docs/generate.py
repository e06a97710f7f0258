"""Write docs/reference/*.md and configs/full.toml from the code: `python -m docs.generate [--check]`.

Owns which file is written from which module; with --check nothing is written, and the exit status is 1 where a file
is stale. Never asks the network, a GPU or a database that is not its own temporary one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from docs.from_code import cli, config, events, exit_codes, formats, layout, metrics, states, tables
from docs.from_code.markdown import NotInTheCode
from watcher.settings.template import full_toml

ROOT = Path(__file__).resolve().parent.parent
MENDS = "python -m docs.generate"

#: file, relative to the project -> what makes its text
PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli.page,
    "docs/reference/config.md": config.page,
    "docs/reference/tables.md": tables.page,
    "docs/reference/states.md": states.page,
    "docs/reference/exit-codes.md": exit_codes.page,
    "docs/reference/formats.md": formats.page,
    "docs/reference/metrics.md": metrics.page,
    "docs/reference/events.md": events.page,
    "docs/reference/layout.md": layout.page,
    "configs/full.toml": full_toml,
}


def stale(root: Path = ROOT) -> list[str]:
    """Files below root that are not what the code says now. Raises NotInTheCode."""
    return [name for name, text in PAGES.items() if _read(root / name) != text()]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """0 fine; 1 a page is stale (with --check) or cannot be made; 2 an argument that is not known."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {MENDS} [--check]\n")
        return 2
    check, wrong = bool(arguments), 0
    for name, make in PAGES.items():
        try:
            text = make()
        except NotInTheCode as error:
            sys.stderr.write(f"error: {name} cannot be made: {error}\n")
            wrong += 1
            continue
        if _read(root / name) == text:
            continue
        sys.stderr.write(f"{'stale' if check else 'written'}: {name}\n")
        if check:
            wrong += 1
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
    if wrong and check:
        sys.stderr.write(f"  next:  {MENDS}\n")
    return int(wrong > 0)


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
