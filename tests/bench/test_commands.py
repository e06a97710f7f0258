"""Commands of benchmarks that a page names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bench.__main__ import parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), ROOT / "bench/README.md", *(ROOT / "docs").rglob("*.md")]
COMMAND = re.compile(r"python -m (bench[^`#\n|,;)]*)")


def commands(page: Path) -> list[list[str]]:
    """The words behind `python -m`, of each command on the page."""
    return [shlex.split(command) for command in COMMAND.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_command_of_a_benchmark_that_a_page_names_exists_with_its_flags(page):
    for program, *arguments in commands(page):
        assert program == "bench", "each is a name behind `python -m bench`"
        if arguments != ["NAME", "[flags]"]:
            parser().parse_args(arguments)
