"""The dashboard in a real Chromium: the curve is drawn, rows come by themselves, hostile names are inert."""

from __future__ import annotations

import re

import pytest

from tests.support.training import say_healthy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

#: How many distinct, non-transparent pixels the chart's canvas holds that are no shade of grey.
COLOURED = """() => {
  const canvas = document.querySelector("#chart canvas");
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    const spread = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
    if (data[i + 3] > 128 && spread > 60) found += 1;
  }
  return found;
}"""


def coloured(page) -> int:
    """Asked from here: the page's own policy forbids the eval that Playwright's waiting would need."""
    return wait_until(lambda: page.evaluate(COLOURED), 30)


def test_the_curve_is_really_drawn_in_every_way_of_looking_at_it(page, url):
    page.goto(url)
    whole = coloured(page)
    assert whole > 1500
    assert page.locator("#chips .chip").count() == 4
    for name, value in (("y", "log"), ("x", "tokens"), ("x", "time"), ("y", "linear"), ("x", "step")):
        page.locator(f'input[name="{name}"][value="{value}"]').check(force=True)
        assert coloured(page) > 1500, (name, value)
    for chip in page.locator("#chips .chip").all()[1:]:
        chip.click()
    assert 0 < coloured(page) < whole


def test_the_error_band_and_the_trainers_own_curve_can_be_taken_away(page, url, made):
    for step, loss in ((20000, 3.2), (20500, 3.9), (21000, 3.4)):
        made.database.result(step, loss, "gpt-124m", "fineweb", loss_stderr=0.8, logged_val_loss=loss + 0.4)
    page.goto(url)
    both = coloured(page)
    page.locator('input[name="logged"]').uncheck()
    without_logged = coloured(page)
    page.locator('input[name="band"]').uncheck()
    assert both > without_logged > 0
    assert page.evaluate(COLOURED) > 0


def test_a_new_result_appears_without_a_reload_in_table_and_curve(page, url, made):
    page.goto(url)
    coloured(page)
    before = int(page.locator("#chart").get_attribute("data-points"))
    page.evaluate("window.stayed = true")
    page.get_by_text("live", exact=True).wait_for()
    number = made.database.result(30000, 1.2345, "gpt-124m", "fineweb", checkpoint="gpt_step_030000.pt")
    page.locator(f'#newest tr[data-key="{number}"]').wait_for(timeout=10_000)
    assert "1.2345" in page.locator(f'#newest tr[data-key="{number}"]').inner_text()
    assert "1.2345" in page.locator("#tiles").inner_text()
    wait_until(lambda: page.evaluate(f"+document.querySelector('#chart').dataset.points === {before + 1}"), 30)
    assert page.evaluate("window.stayed") is True


def test_a_change_of_health_shows_by_itself(page, url, made):
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    assert "healthy" in page.locator("#strip").inner_text()
    say_healthy(made.state, state="degraded", reasons=["the folder is missing"])
    page.locator("#strip.is-degraded").wait_for(timeout=10_000)
    assert "the folder is missing" in page.locator("#strip").inner_text()


def test_a_hostile_checkpoint_name_is_inert_also_when_it_comes_live(page, url, made):
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    hostile = '<img src=x onerror="window.owned=1"><script>window.owned=2</script>\'"&lt;.pt'
    number = made.database.checkpoint(31000, "gpt-124m", hostile, digest="sha256:hostile")
    made.database.job(number, "failed", "gpt-124m", "fineweb", reason=hostile)
    row = {"checkpoint": hostile, "checkpoint_digest": "sha256:hostile", "note": hostile}
    result = made.database.result(31000, 2.0, "gpt-124m", "fineweb", **row)
    cell = page.locator(f'#newest tr[data-key="{result}"]')
    cell.wait_for(timeout=10_000)
    assert hostile in cell.inner_text()
    for path in ("/", "/checkpoints", f"/checkpoints/{number}", "/queue", "/runs"):
        page.goto(url + path)
        page.get_by_text("live", exact=True).wait_for()
        assert page.evaluate("window.owned") is None, path
        assert page.locator('img[src="x"]').count() == 0


def test_the_policy_stops_inline_script_even_if_it_got_into_the_page(page, url):
    page.goto(url)
    page.evaluate(
        """() => { const hole = document.createElement("div");
                   hole.innerHTML = '<img src="data:," onerror="window.owned = 1">'; document.body.append(hole); }"""
    )
    wait_until(lambda: page.evaluate("document.querySelector('img[src=\"data:,\"]').complete"), 30)
    assert page.evaluate("window.owned") is None
    assert any("Content Security Policy" in said for said in page.complaints)
    page.complaints.clear()


def test_nothing_is_asked_of_any_other_host(page, url):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/runs", "/checkpoints", "/checkpoints/1", "/queue", "/data", "/system"):
        page.goto(url + path)
        page.get_by_text("live", exact=True).wait_for()
    assert asked and all(each.startswith(url) for each in asked)


def test_the_keyboard_reaches_controls_points_and_links(page, url):
    page.goto(url)
    coloured(page)
    page.locator("#chart").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert re.search(r"step \d+", page.locator("#readout").inner_text())
    page.locator('input[name="x"][value="step"]').focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "tokens"
    page.goto(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"


def test_light_and_dark_follow_the_system_and_the_choice_is_kept(browser, url):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    ground = "getComputedStyle(document.body).backgroundColor"
    page.goto(url)
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert dark != light
    page.goto(url + "/queue")
    assert page.evaluate(ground) == light
    context.close()


def test_a_phone_shows_every_page_without_scrolling_sideways(browser, url):
    context = browser.new_context(viewport={"width": 375, "height": 760})
    page = context.new_page()
    for path in ("/", "/runs", "/checkpoints", "/checkpoints/1", "/queue", "/jobs/1", "/data", "/system"):
        page.goto(url + path)
        page.get_by_text("live", exact=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
    context.close()
