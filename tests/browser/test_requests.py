"""Requests of the page that fail once, and what a press of the mouse on a chart means."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.browser.test_overview import attribute, plot_box, zoom
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser
PANEL = '.panel[data-set="fineweb"][data-metric="loss"]'


def test_each_request_that_is_refused_once_is_asked_again_long_before_the_minute_is_over(page, url, made):
    asked: Counter[str] = Counter()

    def refuse_the_first(route) -> None:
        path = urlsplit(route.request.url).path
        asked[path] += 1
        if asked[path] > 1:
            route.continue_()
        else:
            route.fulfill(status=503, content_type="text/plain", body="attempt to write a readonly database\n")

    for path in ("/api/curves*", "/api/bests*", "/events"):
        page.route(f"{url}{path}", refuse_the_first)
    page.goto(url)
    panels = page.locator(".panel").count()
    wait_until(lambda: page.locator(".panel[data-points]").count() == panels == 2, 30)
    page.get_by_text("live", exact=True).wait_for()
    wait_until(lambda: page.title() and asked["/api/bests"] > 1, 20)
    page.route(f"{url}/", refuse_the_first)
    row = {"checkpoint": "later.pt", "checkpoint_digest": "sha256:later"}
    number = made.database.result(30_000, 2.5, "gpt-124m", "fineweb", **row)
    page.locator(f'#newest tr[data-key="{number}"]').wait_for()
    wait_until(lambda: page.locator(f"{PANEL}").get_attribute("data-points") == "17", 20)
    assert set(asked) == {"/", "/api/curves", "/api/bests", "/events"}
    page.complaints.clear()  # the refusals


def test_a_drag_on_a_slow_page_zooms_a_click_opens_and_a_double_click_only_ends_the_zoom(page, url):
    page.goto(url)
    page.locator(f"{PANEL}[data-points]").wait_for()
    opened: list[str] = []
    page.on("request", lambda request: opened.append(request.url) if "/results/" in request.url else None)
    busy = """() => addEventListener("mouseup", () => {
      const until = performance.now() + 400;
      while (performance.now() < until);
    }, { once: true })"""
    whole = attribute(page, "data-range")
    page.evaluate(busy)
    zoom(page, PANEL)
    box = plot_box(page, PANEL)
    page.mouse.dblclick(box["x"] + 150, box["y"] + 60)
    wait_until(lambda: attribute(page, "data-range") == whole, 10)
    page.wait_for_timeout(500)  # longer than a click waits for its second
    assert not opened and urlsplit(page.url).path == "/"
    page.mouse.move(box["x"] + 150, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 152, box["y"] + 60)  # a hand is not still
    page.mouse.up()
    page.wait_for_url("**/checkpoints/*")


def test_a_page_that_nobody_sees_asks_for_nothing_and_is_of_now_when_it_is_seen_again(page, url, made):
    page.add_init_script("Object.defineProperty(Document.prototype, 'hidden', { get: () => window.away === true })")
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    page.evaluate(
        """() => { window.away = true; const stream = new EventSource("/events");
          window.told = new Promise((done) => stream.addEventListener("change", done));
          return new Promise((done) => stream.addEventListener("hello", done)); }"""
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if urlsplit(request.url).path == "/" else None)
    row = {"checkpoint": "unseen.pt", "checkpoint_digest": "sha256:unseen"}
    number = made.database.result(31_000, 2.4, "gpt-124m", "fineweb", **row)
    page.evaluate("window.told.then(() => null)")
    assert asked == []
    page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    page.locator(f'#newest tr[data-key="{number}"]').wait_for()
