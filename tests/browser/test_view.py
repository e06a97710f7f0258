"""The view in the address, which another browser shows alike; and from overview to comparison by keyboard alone."""

from __future__ import annotations

import pytest

from tests.browser.pixels import COLOURED
from tests.browser.test_overview import (  # noqa: F401  (made and overview are fixtures)
    CANVAS,
    address,
    attribute,
    made,
    opened,
    overview,
    zoom,
)  # fmt: skip
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser
PICTURE = "(selector) => [...document.querySelectorAll(selector)].map((canvas) => canvas.toDataURL())"


def test_the_address_makes_the_same_picture_in_another_browser(overview, browser):  # noqa: F811
    overview.get_by_label("perplexity").check(force=True)
    overview.locator('.panel[data-metric="ppl"]').first.wait_for()
    overview.locator("#regex").check()
    overview.locator("#filter").fill("^gpt-(a|b)")
    overview.locator("#show6").uncheck()
    for label in ("log x", "log y"):
        overview.get_by_label(label).check()
    overview.get_by_label("95 % band").uncheck()
    overview.get_by_label("tokens seen").check(force=True)
    overview.get_by_role("button", name="step", exact=True).click()
    overview.get_by_role("button", name="step", exact=True).click()
    overview.locator('#run-rows tr[data-key="2"] td.n').first.click()  # pinned
    zoom(overview)
    overview.mouse.move(5, 5)
    assert address(overview).keys() == {
        *("m", "regex", "q", "hide", "xlog", "ylog", "band", "x", "sort", "down", "pin", "zoom")
    }
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    other = opened(context.new_page(), overview.url)
    pictures = ".panel canvas:not(.lit)"
    for page in (overview, other):
        page.locator('.panel[data-metric="ppl"]').last.scroll_into_view_if_needed()
        wait_until(lambda page=page: page.locator(".panel[data-points]").count() == 4, 20)
        wait_until(lambda page=page: page.locator("#run-rows [title='being computed']").count() == 0, 20)
    wait_until(lambda: other.evaluate(PICTURE, pictures) == overview.evaluate(PICTURE, pictures), 20)
    assert overview.evaluate(COLOURED, CANVAS) > 100
    for part in ("#run-table", "#controls", "#shown-count"):
        assert other.locator(part).inner_text() == overview.locator(part).inner_text(), part
    context.close()


def test_a_reload_and_a_shared_link_show_the_same_view(overview, browser):  # noqa: F811
    overview.locator("#filter").fill("gpt-a")
    overview.locator("#show6").uncheck()
    overview.get_by_label("log y").check()
    newest = overview.locator('#run-rows tr[data-key="1"]')
    before = newest.get_attribute("data-newest")
    overview.locator("#table-set").select_option("wikitext")
    wait_until(lambda: newest.get_attribute("data-newest") != before, 10)
    overview.get_by_role("button", name="best", exact=True).click()
    zoom(overview)
    wait_until(lambda: address(overview).get("set") == ["wikitext"], 10)
    wait_until(lambda: overview.locator("#run-rows [title='being computed']").count() == 0, 20)
    state = {name: attribute(overview, name) for name in ("data-range", "data-curves")}
    rows = overview.locator("#run-rows tr:visible").evaluate_all("rows => rows.map(row => row.dataset.key)")
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    other = opened(context.new_page(), overview.url)
    wait_until(lambda: attribute(other, "data-curves") == state["data-curves"], 10)
    wait_until(lambda: other.locator("#run-rows [title='being computed']").count() == 0, 20)
    near = [float(a) == pytest.approx(float(b)) for a, b in zip(
        attribute(other, "data-range").split("~"), state["data-range"].split("~"), strict=True)]  # fmt: skip
    assert all(near)
    assert other.locator("#run-rows tr:visible").evaluate_all("rows => rows.map(row => row.dataset.key)") == rows
    assert other.locator("#filter").input_value() == "gpt-a" and not other.locator("#show6").is_checked()
    assert other.locator('input[name="ylog"]').is_checked() and other.locator("#table-set").input_value() == "wikitext"
    context.close()


def test_from_the_overview_to_a_checkpoint_to_a_comparison_with_the_keyboard_alone(overview):  # noqa: F811
    def tab_to(script: str) -> None:
        for _ in range(150):
            overview.keyboard.press("Tab")
            if overview.evaluate(f"(() => {{ const here = document.activeElement; return {script}; }})()"):
                return
        raise AssertionError(f"no Tab leads to {script}")

    tab_to("here.id === 'filter'")
    overview.keyboard.type("gpt-a-000")
    wait_until(lambda: attribute(overview, "data-curves") == "1", 10)
    tab_to("here.classList.contains('plot')")
    overview.keyboard.press("ArrowRight")
    overview.keyboard.press("Enter")
    overview.wait_for_url("**/checkpoints/*")
    overview.get_by_text("live", exact=True).wait_for()
    tab_to("here.textContent === 'Compare'")
    overview.keyboard.press("Enter")
    overview.wait_for_url("**/compare*")
    overview.get_by_text("live", exact=True).wait_for()
    tab_to("here.name === 'of'")
    overview.keyboard.type("gpt-a-000@5000")
    overview.keyboard.press("Tab")
    overview.keyboard.type("gpt-b-001@5000")
    overview.keyboard.press("Enter")
    overview.locator("#compared .pairs").wait_for()
    assert overview.locator("#compared .pairs tbody tr").count() == 2
