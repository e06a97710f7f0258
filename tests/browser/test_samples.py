"""Samples in Chromium: readable side by side and at 390 px, in both themes, and inert whatever a model writes."""

from __future__ import annotations

import pytest

from tests.browser.test_access import RULES, violations
from tests.support.sample_rows import sample_texts
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


def test_texts_of_a_new_checkpoint_come_by_themselves_and_older_ones_are_reached_with_the_keyboard(page, url, made):  # noqa: F811
    page.goto(f"{url}/samples")
    page.get_by_text("live", exact=True).wait_for()
    sample_texts(made.database, made.database.checkpoint(1100), {"The ship": "sails <b>1100</b>"})
    first = page.locator("ol.samples").first.locator("li").first
    first.get_by_text("step 1,100").wait_for()
    assert first.locator("pre").inner_text() == "sails <b>1100</b>"
    page.get_by_text("older").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**page=2")
    assert page.locator("ol.samples").first.locator("a").all_inner_texts() == ["step 300", "step 200", "step 100"]
    page.get_by_label("run").select_option("gpt")
    page.get_by_role("button", name="show").click()
    page.wait_for_url("**/samples?run=1&name=stories")
    assert page.locator("#samples b").count() == 0
