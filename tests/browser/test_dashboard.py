"""Every page of the dashboard in a real Chromium: live health, inert names, its policy, themes, a phone's width."""

from __future__ import annotations

import pytest

from tests.support.training import say_healthy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


def test_a_change_of_health_shows_by_itself(page, url, made):
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    assert "healthy" in page.locator("#strip").inner_text()
    say_healthy(made.state, state="degraded", reasons=["the folder is missing"])
    page.locator("#strip.is-degraded").wait_for(timeout=10_000)
    assert "the folder is missing" in page.locator("#strip").inner_text()
    say_healthy(made.state)


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


def test_a_page_without_edit_has_no_form_to_write_and_the_server_takes_none(page, url):
    for path in ("/runs/1", "/checkpoints/1"):
        page.goto(url + path)
        assert page.locator("form[method=post], #annotate").count() == 0
    sent = "fetch('/annotations', {method: 'POST', body: 'text=x'}).then((answer) => answer.status)"
    assert page.evaluate(sent) == 405
    page.complaints.clear()  # the 405


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
