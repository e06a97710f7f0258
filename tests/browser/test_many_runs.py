"""The overview with 200 runs on 10 sets in a real Chromium: what is drawn and asked for, not how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.pixels import COLOURED
from tests.browser.test_access import RULES, checked, violations  # noqa: F401  (checked is a fixture)
from tests.browser.test_overview import attribute, zoom
from tests.support.many_runs import many_runs
from tests.support.training import Training, say_healthy
from tests.support.waiting import wait_until
from watcher.report import thinning
from watcher.web import overview_facts

pytestmark = pytest.mark.browser
RUNS, SETS, POINTS = 200, 10, 6
OF_EACH = 4  # points of a curve, where 200 share a panel
FIRST = '.panel[data-set="arxiv"]'
LAST = '.panel[data-set="wikitext"]'


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("many"), runs=RUNS, sets=SETS, points=POINTS)
    say_healthy(one.state)
    with pytest.MonkeyPatch.context() as patch:  # as with 60 times as many points on each curve
        patch.setattr(thinning, "POINTS_OF_PANEL", RUNS * OF_EACH)
        patch.setattr(thinning, "POINTS_MIN", 1)
        patch.setattr(overview_facts, "AT_ONCE_MAX", 0)
        yield one
    one.database.close()


@pytest.fixture
def many(page, url):
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(url)
    page.locator(f"{FIRST}[data-points]").wait_for()
    page.get_by_text("live", exact=True).wait_for()
    wait_until(lambda: page.locator("#run-rows [title='being read']").count() == 0, 20)
    return page


def curves_asked(page) -> set[str]:
    return {parse_qs(urlsplit(each).query)["set"][0] for each in page.asked if "/api/curves" in each}


def in_view(page) -> set[str]:
    """The sets whose panels are in the window, or less than 200 pixels away from it."""
    return set(
        page.evaluate(
            """[...document.querySelectorAll(".panel")].filter((panel) => {
              const box = panel.getBoundingClientRect();
              return box.bottom > -200 && box.top < innerHeight + 200;
            }).map((panel) => panel.dataset.set)"""
        )
    )


def test_only_the_panels_in_view_are_asked_for_and_drawn_and_the_others_when_they_come_into_view(many):
    assert many.locator(".panel").count() == SETS and many.locator("#run-rows tr").count() == RUNS
    near = in_view(many)
    assert "arxiv" in near and "wikitext" not in near
    wait_until(lambda: many.locator(".panel[data-points]").count() == len(near), 20)
    assert curves_asked(many) == near and many.locator(f"{LAST} canvas").count() == 0
    many.locator(LAST).scroll_into_view_if_needed()
    many.locator(f"{LAST}[data-points]").wait_for()
    assert "wikitext" in curves_asked(many)


def test_a_panel_holds_every_run_and_no_more_points_than_the_thinning_leaves(many):
    assert attribute(many, "data-curves", FIRST) == str(RUNS)
    points = int(attribute(many, "data-points", FIRST))
    assert 2 * RUNS <= points < RUNS * (OF_EACH + 1)  # of POINTS each in the database


def test_a_regular_expression_hides_runs_in_the_table_and_in_the_panels(many):
    many.locator("#regex").check()
    many.locator("#filter").fill("^gpt-(a|lr)-1[0-4]")
    right = {f"gpt-a-{number}" for number in range(100, 150, 5)} | {f"gpt-lr-{number}" for number in range(102, 150, 5)}
    wait_until(lambda: attribute(many, "data-curves", FIRST) == str(len(right)), 10)
    shown = many.locator("#run-rows tr:visible").evaluate_all("rows => rows.map((row) => row.dataset.name)")
    assert set(shown) == right and many.locator("#shown-count").inner_text() == "20 of 200 shown"


def test_a_zoom_stays_when_a_result_of_one_of_two_hundred_runs_comes(many, made):
    low, high = zoom(many, FIRST)
    refined = [each for each in many.asked if "from=" in each]
    path = {"checkpoint": "late.pt", "checkpoint_digest": "sha256:late", "loss_stderr": 0.03}
    number = made.database.result(1750, 9.5, "gpt-b-196", "arxiv", **path)
    many.locator(f'#newest tr[data-key="{number}"]').wait_for()
    # the title: Playwright tells of requests only during a call
    wait_until(lambda: many.title() and sum("from=" in each for each in many.asked) > len(refined), 20)
    wait_until(lambda: many.locator(FIRST).get_attribute("data-range") == f"{low}~{high}", 10)
    assert parse_qs(urlsplit(many.url).query)["zoom"]


@pytest.mark.parametrize("path", ["/", "/runs"])
def test_axe_finds_nothing_with_two_hundred_runs(checked, url, path):  # noqa: F811
    found = []
    for scheme in ("light", "dark"):
        checked.emulate_media(color_scheme=scheme)
        checked.goto(url + path)
        if path == "/":
            checked.locator(f"{FIRST}[data-points]").wait_for()
        found += violations(checked, {"type": "tag", "values": RULES})
    assert not found, "\n".join(found)


def test_of_two_hundred_curves_the_eight_best_are_strong(many):
    """A strong line keeps its colour; a faint one, a quarter of it at most, is no colour that COLOURED counts."""
    canvas = f"{FIRST} canvas:not(.lit)"
    wait_until(lambda: many.evaluate(COLOURED, canvas) > 100, 20)
    crowd = many.evaluate(COLOURED, canvas)
    many.locator("#filter").fill("gpt-a")  # 40 curves, all alike
    wait_until(lambda: attribute(many, "data-curves", FIRST) == "40", 10)
    assert many.evaluate(COLOURED, canvas) > 2 * crowd
