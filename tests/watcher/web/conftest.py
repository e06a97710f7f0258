"""The dashboard over what a file's fixture `made` wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.training import Training, dashboard


@pytest.fixture(scope="module")
def url(made: Training) -> Iterator[str]:
    """The address of its pages, for all tests of the file."""
    with dashboard(made) as address:
        yield address
