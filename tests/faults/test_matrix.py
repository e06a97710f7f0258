"""The page about the fault matrix says what the tests are."""

from __future__ import annotations

import pytest

from tests.faults.matrix import PAGE, ROWS, page, rows_proven
from tests.faults.rows import FILES, FOUND_BY_OUTSIDERS

pytestmark = pytest.mark.short


def test_reliability_page_is_what_the_tests_say():
    assert PAGE.read_text() == page(), "stale: python -m tests.faults.matrix"


def test_all_rows_are_listed_in_order_and_no_test_names_another():
    assert list(ROWS)[:100] == list(range(1, 101))
    assert list(ROWS) == sorted(ROWS)
    assert len(FOUND_BY_OUTSIDERS) == sum(len(file.ROWS) for file in FILES), "a number stands in two files"
    assert set(rows_proven()) <= set(ROWS)
