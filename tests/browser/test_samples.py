"""Samples in Chromium: readable side by side and at 390 px, in both themes, and inert whatever a model writes."""

from __future__ import annotations

import pytest

from tests.browser.test_access import RULES, violations
from tests.watcher.web.conftest import url  # noqa: F401  (a fixture)
from tests.watcher.web.test_samples import made  # noqa: F401  (a fixture)

pytestmark = pytest.mark.browser
from tests.browser.test_access import checked  # noqa: E402, F401


def test_texts_stand_side_by_side_on_a_wide_screen_and_below_one_another_on_a_phone(page, url):  # noqa: F811
    page.goto(f"{url}/samples")
    columns = "new Set([...document.querySelectorAll('ol.samples')[0].children].map(each => each.offsetLeft)).size"
    assert page.evaluate(columns) >= 3
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(columns) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("text=older").click()
    assert page.locator("ol.samples").first.locator("a").all_inner_texts() == ["step 200", "step 100"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_of_samples(checked, url, theme):  # noqa: F811
    checked.emulate_media(color_scheme=theme)
    checked.goto(f"{url}/samples")
    assert violations(checked, {"type": "tag", "values": RULES}) == []
    assert checked.evaluate("document.querySelectorAll('#samples script').length") == 0
