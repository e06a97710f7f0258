"""The documentation holds: generated pages are current, everything is in them, links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs import generate
from docs.from_code import navigation
from docs.from_code.tables import view_columns
from evalcore.messages import FAILURE_KINDS
from tests.faults.matrix import ROWS
from tests.faults.promises import PROMISES
from tests.test_architecture import ROOMS
from watcher.domain import kinds
from watcher.domain.job import State
from watcher.settings.load import load_settings
from watcher.settings.schema import Settings
from watcher.store import schema
from watcher.store.views import MEANINGS, VIEWS

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
READ_FIRST = [ROOT / name for name in ("README.md", "CONTRIBUTING.md") if (ROOT / name).exists()]


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_current(name):
    assert (ROOT / name).read_text(encoding="utf-8") == generate.PAGES[name](), f"run `{generate.MENDS}`"


def test_a_stale_page_is_named_with_the_command_that_mends_it(tmp_path, capsys):
    for name in generate.PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    old = tmp_path / "docs/reference/events.md"
    old.write_text(old.read_text() + "\nmore\n")
    assert generate.main(["--check"], tmp_path) == 1
    said = capsys.readouterr().err
    assert "stale: docs/reference/events.md" in said
    assert generate.MENDS in said
    assert said.count("stale:") == 1
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0


def test_every_table_column_and_view_has_its_words():
    for name, table in schema.metadata.tables.items():
        assert table.comment, name
        assert [column.name for column in table.columns if not column.comment] == [], name
    assert MEANINGS.keys() == VIEWS.keys() == view_columns().keys()


def test_every_state_and_kind_has_its_words():
    assert list(kinds.STATES) == list(State)
    assert kinds.FAILURES.keys() == FAILURE_KINDS


def test_every_settings_key_is_documented():
    page = (ROOT / "docs/reference/config.md").read_text()
    for name, field in Settings.model_fields.items():
        section = next(a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if a is not Ellipsis)
        for key in getattr(section, "model_fields", {}):
            assert f"| `{key}` |" in page or f"## `[{name}.{key}]`" in page, (name, key)


@pytest.mark.parametrize("page", [*PAGES, *READ_FIRST], ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = page if not file else (page.parent / file).resolve()
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_site_generator_understands_every_fence(page):
    """A mark of two words makes it take the block for text."""
    marks = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [mark for mark in marks if not re.fullmatch(r"\w*", mark)] == []
    assert all(mark for mark in marks[::2])


def test_every_page_is_in_the_navigation_of_the_site():
    nav = [{"Home": "index.md"}, {"How to": ["how-to/nanogpt.md"]}]
    navigation.complete(nav, ROOT / "docs")
    assert nav[1]["How to"][0] == "how-to/nanogpt.md"
    assert "how-to/sinks.md" in nav[1]["How to"]
    listed = re.findall(r"[\w/-]+\.md", str(nav))
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES)


@pytest.mark.parametrize("page", [*PAGES, *READ_FIRST], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_project_that_a_page_names_exists(page):
    named = re.findall(
        r"`((?:watcher|evalcore|tests|docs|deploy|configs|migrations|bench)/[\w./*-]+)`", page.read_text()
    )
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_that_a_page_shows_are_valid(page, tmp_path):
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        load_settings(file)
    assert page.exists()


def anchors(page: Path) -> set[str]:
    """The anchors that headings get, as the site generator and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_the_table_of_packages_is_the_import_table():
    """CONTRIBUTING and the architecture test state the same rule."""
    rows = re.findall(r"^\| `watcher/(\w+)/` \| .* \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    stated = {room: () if names == "nothing" else tuple(names.split(", ")) for room, names in rows}
    assert {room: names for room, names in stated.items() if names != ("anything",)} == ROOMS


def test_every_module_is_in_the_repository_layout():
    page = (ROOT / "docs/reference/layout.md").read_text()
    for package in ("watcher", "evalcore"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name != "__init__.py":
                assert f"| `{file.name}` |" in page, file


def test_every_promise_that_a_row_tests_is_defined_on_the_page():
    page = (ROOT / "docs/reliability.md").read_text()
    used = {name for promise, _, _ in ROWS.values() for name in promise.split()}
    assert used == {f"P{number}" for number in PROMISES} & used
    assert [number for number in PROMISES if f"| P{number} |" not in page] == []
    assert list(PROMISES) == list(range(1, 23))
