"""A site for each test: a watched folder and everything beside it; whatever it started is ended afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon import Site

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("short"):
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def site(tmp_path):
    made = []

    def make(**settings) -> Site:
        made.append(Site(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.end()
