"""The overview in a real Chromium: run table, panels, axes, zoom, cursor, live results, the address, the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.pixels import COLOURED
from tests.support.many_runs import many_runs
from tests.support.training import Training, say_healthy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser
PANEL = '.panel[data-set="fineweb"][data-metric="loss"]'
CANVAS = f"{PANEL} canvas"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("overview"), runs=26, sets=2, points=10)
    database = one.database
    for run, state in (("gpt-lr-002", "failed"), ("gpt-wd-003", "queued"), ("gpt-deep-004", "running")):
        database.job(database.checkpoint(90_000, run, f"{state}.pt"), state, run, "wikitext")
    say_healthy(one.state)
    yield one
    one.database.close()


@pytest.fixture
def overview(page, url):
    return opened(page, url)


def opened(page, address: str):
    """Open, and wait until the first panel is drawn and the line for live updates is open."""
    page.goto(address)
    page.locator(f"{PANEL}[data-points]").wait_for()
    page.get_by_text("live", exact=True).wait_for()
    return page


def attribute(page, name: str, panel: str = PANEL) -> str:
    """Asked from here: the page's own policy forbids the eval that Playwright's waiting would need."""
    return page.locator(panel).get_attribute(name) or ""


def address(page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def plot_box(page, panel: str = PANEL) -> dict:
    return page.locator(f"{panel} .u-over").bounding_box()


def zoom(page, panel: str = PANEL) -> tuple[float, float]:
    """Drag over the middle of a panel; the range of x that it shows then."""
    before, box = attribute(page, "data-range", panel), plot_box(page, panel)
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 90, steps=4)
    page.mouse.up()
    wait_until(lambda: attribute(page, "data-range", panel) != before, 10)
    low, high = map(float, attribute(page, "data-range", panel).split("~"))
    return low, high


def test_each_set_and_metric_has_a_panel_of_its_own_with_a_curve_for_each_run(overview):
    assert overview.locator(".panel").count() == 2
    assert attribute(overview, "data-curves") == "26" and attribute(overview, "data-points") == "257"  # 3 are NaN
    wait_until(lambda: overview.evaluate(COLOURED, CANVAS) > 1500, 20)
    overview.get_by_label("perplexity").check(force=True)
    overview.locator('.panel[data-metric="ppl"][data-set="wikitext"]').wait_for()
    assert overview.locator(".panel").count() == 4 and address(overview)["m"] == ["loss,ppl"]
    overview.get_by_label("loss logged by the trainer").check(force=True)
    overview.locator('.panel[data-metric="logged"]').wait_for()
    assert overview.locator(".panel").count() == 5  # logged once for each run, not once for each set


def test_a_filter_of_words_or_a_regular_expression_narrows_table_and_curves(overview):
    overview.locator("#filter").fill("GPT lr")
    wait_until(lambda: attribute(overview, "data-curves") == "5", 10)
    assert overview.locator("#run-rows tr:visible").count() == 5
    overview.locator("#regex").check()
    overview.locator("#filter").fill("-00[0-3]$")
    wait_until(lambda: attribute(overview, "data-curves") == "4", 10)
    overview.locator("#filter").fill("(")
    assert "not a regular expression" in overview.locator("#filter-problem").inner_text()
    assert address(overview)["q"] == ["("] and address(overview)["regex"] == ["1"]


def test_a_click_on_a_head_sorts_the_runs_and_unknown_values_come_last(overview):
    def shown(column: int) -> list[str]:
        return overview.locator(f"#run-rows td:nth-child({column})").all_inner_texts()

    overview.get_by_role("button", name="newest", exact=True).click()
    numbers = [float(text) for text in shown(3)]
    assert numbers == sorted(numbers)
    overview.get_by_role("button", name="newest", exact=True).click()
    assert [float(text) for text in shown(3)] == sorted(numbers, reverse=True)
    assert overview.locator('th[aria-sort="descending"]').inner_text().startswith("newest")
    assert address(overview)["sort"] == ["newest"] and address(overview)["down"] == ["1"]


def test_the_state_sorts_what_runs_first_then_what_waits_what_failed_and_the_rest_by_name(overview):
    states = overview.locator("#run-rows td:last-child")
    overview.get_by_role("button", name="state", exact=True).click()
    assert [text.split()[0] for text in states.all_inner_texts()] == ["running", "queued", "failed"] + ["idle"] * 23
    names = overview.locator("#run-rows tr").evaluate_all("rows => rows.map((row) => row.dataset.name)")
    assert names[:4] == ["gpt-deep-004", "gpt-wd-003", "gpt-lr-002", "gpt-a-000"]
    overview.get_by_role("button", name="state", exact=True).click()
    assert states.all_inner_texts()[-1] == "running" and address(overview)["sort"] == ["state"]


def test_a_run_keeps_its_colour_whatever_is_filtered_and_the_25th_has_another_line(overview):
    def swatch(run: int) -> str:
        return overview.locator(f'tr[data-key="{run}"] svg').evaluate("e => getComputedStyle(e).color")

    before = swatch(3)
    colours = {swatch(run) for run in range(1, 25)}
    overview.locator("#filter").fill("lr-002")
    assert swatch(3) == before and len(colours) == 24
    dash = 'e => getComputedStyle(e.querySelector("line")).strokeDasharray'
    lines = [overview.locator(f'tr[data-key="{run}"] svg').evaluate(dash) for run in (1, 25)]
    assert swatch(25) == swatch(1) and lines[0] != lines[1]


def test_every_axis_and_both_logarithms_draw_the_curves_and_the_band_can_be_taken_away(overview):
    overview.locator("#show-none").click()
    overview.locator("#show1").check()
    wait_until(lambda: attribute(overview, "data-curves") == "1", 10)
    for axis in ("tokens seen", "time (UTC)", "training hours", "step"):
        before = attribute(overview, "data-range")
        overview.get_by_label(axis, exact=True).check(force=True)
        wait_until(lambda before=before: attribute(overview, "data-range") != before, 10)
        wait_until(lambda: overview.evaluate(COLOURED, CANVAS) > 100, 10)
    for flag in ("log x", "log y"):
        overview.get_by_label(flag).check()
        wait_until(lambda: overview.evaluate(COLOURED, CANVAS) > 100, 10)
    assert {"xlog", "ylog"} <= address(overview).keys() and address(overview)["only"] == ["1"]
    linear = overview.locator(PANEL).screenshot()
    overview.get_by_label("95 % band").uncheck()
    wait_until(lambda: overview.locator(PANEL).screenshot() != linear, 10)
    assert "1.96 standard errors" in overview.locator("#legend-note").inner_text()


def test_on_two_logarithmic_axes_tokens_and_hours_stand_where_they_belong(overview):
    overview.locator("#filter").fill("gpt-a-000")
    wait_until(lambda: attribute(overview, "data-curves") == "1", 10)
    for flag in ("log x", "log y"):
        overview.get_by_label(flag).check()
    reaches = {  # each positive x, a fiftieth of the axis more at both ends; the first checkpoint is at 0 hours
        "tokens seen": (500 * 524_288, 5000 * 524_288, "262,144,000 tokens"),
        "training hours": (600 / 3600, 9 * 600 / 3600, "0 h of training"),
    }
    for axis, (low, high, first) in reaches.items():
        overview.get_by_label(axis, exact=True).check(force=True)
        right = low / (high / low) ** 0.02, high * (high / low) ** 0.02
        wait_until(lambda right=right: drawn_range(overview) == pytest.approx(right, rel=1e-3), 10)
        overview.locator(f"{PANEL} .plot").focus()
        overview.keyboard.press("Escape")
        overview.keyboard.press("ArrowRight")
        assert f"gpt-a-000, {first}: " in overview.locator(f"{PANEL} .status").inner_text()
    overview.keyboard.press("Escape")
    assert "points at 0 are not drawn on a log axis" in overview.locator(f"{PANEL} .status").inner_text()


def drawn_range(page) -> list[float]:
    return [float(edge) for edge in attribute(page, "data-range").split("~")]


#: Of a pixel in the lower middle of a canvas, 0 to 255.
OPACITY = """(selector) => {
  const canvas = document.querySelector(selector);
  return canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height - 70, 1, 1).data[3];
}"""


def test_the_run_that_is_pointed_at_or_pinned_is_strong_and_the_others_are_faint(overview):
    def strong() -> int:  # pixels of the colours as they are: those of faint curves are mixed with the card's
        return overview.evaluate(COLOURED, f"{CANVAS}:not(.lit)")

    wait_until(lambda: strong() > 2000, 20)
    all_alike, row = strong(), overview.locator('#run-rows tr[data-key="2"]')
    row.hover()
    lit = f"{CANVAS}.lit"
    wait_until(lambda: overview.evaluate(COLOURED, lit) > 100, 10)
    veil = overview.evaluate(OPACITY, lit)
    assert 140 < veil < 165  # 60 % of the card's colour lies over the other curves
    row.locator("td.n").first.click()
    overview.mouse.move(5, 5)
    wait_until(lambda: strong() < all_alike / 2, 10)
    assert address(overview)["pin"] == ["2"] and "gpt-b-001 pinned" in overview.locator("#shown-count").inner_text()
    wait_until(lambda: overview.evaluate(COLOURED, lit) == 0, 10)
    overview.locator(f"{PANEL} .plot").focus()
    overview.keyboard.press("ArrowRight")  # the first run: gpt-a-000
    overview.keyboard.press("p")
    wait_until(lambda: address(overview)["pin"] == ["1"], 10)
    overview.keyboard.press("p")
    overview.keyboard.press("Escape")
    wait_until(lambda: "pin" not in address(overview) and strong() > all_alike * 0.9, 10)


def test_a_run_is_lit_up_over_the_whole_panel_also_when_nothing_was_drawn_since_the_page_was_opened(page, url):
    page.route("**/api/bests*", lambda route: route.abort())  # what comes then draws anew
    opened(page, url)
    page.complaints.clear()
    page.locator('#run-rows tr[data-key="2"]').hover()
    lit = f"{CANVAS}.lit"
    wait_until(lambda: page.evaluate(COLOURED, lit) > 100, 10)
    sizes = (
        "(s) => [...document.querySelectorAll(s)].map((canvas) => [canvas.width, canvas.height, canvas.clientWidth])"
    )
    upper, lower = page.evaluate(sizes, lit), page.evaluate(sizes, f"{CANVAS}:not(.lit)")
    assert upper == lower and upper[0][0] > 350
    page.complaints.clear()  # the abort


def test_an_answer_that_is_cut_off_is_no_error_of_the_page_and_is_asked_for_again(page, url, made):
    cut = []

    def cut_the_first(route) -> None:
        if cut:
            route.continue_()
        else:
            cut.append(route.request.url)
            route.fulfill(status=200, content_type="application/json", body='{"computed": 1')

    page.route("**/api/bests*", cut_the_first)
    opened(page, url)
    wait_until(lambda: bool(cut), 20)
    row = {"checkpoint": "after.pt", "checkpoint_digest": "sha256:after"}
    number = made.database.result(2270, 4.4, "gpt-wd-008", "wikitext", **row)
    page.locator(f'#newest tr[data-key="{number}"]').wait_for()
    wait_until(lambda: page.locator("#run-rows [title='being computed']").count() == 0, 20)
    assert page.locator('#run-rows tr[data-key="9"]').get_attribute("data-best")


def test_a_zoom_moves_all_panels_and_a_double_click_ends_it(overview):
    whole = attribute(overview, "data-range")
    low, high = zoom(overview)
    assert 500 < low < high < 5000
    other = PANEL.replace("fineweb", "wikitext")
    wait_until(lambda: attribute(overview, "data-range", other) == attribute(overview, "data-range"), 10)
    box = plot_box(overview)
    overview.mouse.dblclick(box["x"] + 50, box["y"] + 50)
    wait_until(lambda: attribute(overview, "data-range") == whole, 10)


def test_the_pointer_shows_a_tooltip_lights_the_run_up_everywhere_and_a_click_opens_the_checkpoint(overview):
    overview.locator("#filter").fill("gpt-a-000")
    wait_until(lambda: attribute(overview, "data-curves") == "1", 10)
    box = plot_box(overview)
    overview.mouse.move(box["x"] + 100, box["y"] + 100)
    overview.mouse.move(box["x"] + box["width"] - 12, box["y"] + 120)
    words = overview.locator(".tip").inner_text()
    assert "gpt-a-000" in words and "step 5,000" in words and "95 %:" in words
    assert overview.locator("tr.lit").get_attribute("data-name") == "gpt-a-000"
    other = f"{PANEL.replace('fineweb', 'wikitext')} canvas.lit"
    assert overview.evaluate(COLOURED, other) > 100  # the linked cursor: the same run in the other panel
    overview.mouse.click(box["x"] + box["width"] - 12, box["y"] + 120)
    overview.wait_for_url("**/checkpoints/*")
    assert "step_005000.pt" in overview.locator("h1").inner_text()


def test_new_results_come_by_themselves_and_move_neither_zoom_nor_filter_nor_ticks(overview, made):
    overview.locator("#filter").fill("gpt-b")
    overview.locator("#show2").uncheck()
    low, high = zoom(overview)
    points = int(attribute(overview, "data-points"))
    overview.locator("#filter").focus()
    run = "gpt-b-006"
    path = {"checkpoint": "step_002250.pt", "checkpoint_digest": "sha256:late", "tokens_seen": 1, "loss_stderr": 0.03}
    number = made.database.result(2250, 4.4444, run, "fineweb", **path)
    overview.locator(f'#newest tr[data-key="{number}"]').wait_for()
    wait_until(lambda: int(attribute(overview, "data-points")) == points + 1, 20)
    assert [float(edge) for edge in attribute(overview, "data-range").split("~")] == [low, high]
    assert overview.evaluate("document.activeElement.id") == "filter"
    assert not overview.locator("#show2").is_checked() and overview.locator("#run-rows tr:visible").count() == 5


def test_a_new_result_leaves_the_tooltip_and_the_selected_text_where_they_are(overview, made):
    overview.locator("#filter").fill("gpt-a-000")
    wait_until(lambda: attribute(overview, "data-curves") == "1", 10)
    overview.evaluate("getSelection().selectAllChildren(document.querySelector('#newest tr td'))")
    box = plot_box(overview)
    overview.mouse.move(box["x"] + 100, box["y"] + 100)
    overview.mouse.move(box["x"] + box["width"] / 2, box["y"] + 120)
    before = overview.locator(".tip").inner_text()
    selected = overview.evaluate("getSelection().toString()")
    path = {"checkpoint": "step_002260.pt", "checkpoint_digest": "sha256:later", "tokens_seen": 1}
    number = made.database.result(2260, 4.4, "gpt-b-001", "fineweb", **path)
    overview.locator(f'#newest tr[data-key="{number}"]').wait_for()
    assert overview.locator(".tip").is_visible() and overview.locator(".tip").inner_text() == before
    assert selected and overview.evaluate("getSelection().toString()") == selected


def test_the_keyboard_reads_points_changes_the_run_zooms_and_opens(overview):
    overview.locator(f"{PANEL} .plot").focus()
    overview.keyboard.press("ArrowRight")
    overview.keyboard.press("ArrowRight")
    status = overview.locator(f"{PANEL} .status")
    assert "gpt-a-000, step 1,000" in status.inner_text()
    overview.keyboard.press("ArrowDown")
    other = status.inner_text()
    assert ", step 1,000" in other and "gpt-a-000" not in other
    before = attribute(overview, "data-range")
    overview.keyboard.press("+")
    wait_until(lambda: attribute(overview, "data-range") != before, 10)
    overview.keyboard.press("0")
    wait_until(lambda: attribute(overview, "data-range") == before, 10)
    overview.keyboard.press("Enter")
    overview.wait_for_url("**/checkpoints/*")
    assert "step_001000.pt" in overview.locator("h1").inner_text()


def test_the_table_behind_a_chart_holds_the_values_of_its_curves(overview, made):
    overview.locator("#filter").fill("gpt-deep")
    wait_until(lambda: attribute(overview, "data-curves") == "5", 10)
    overview.locator(f"{PANEL} summary").focus()
    overview.keyboard.press("Enter")
    rows = overview.locator(f"{PANEL} tbody tr")
    query = "SELECT run, step, loss, loss_stderr FROM curve JOIN results USING (run, eval_set, step, loss) WHERE "
    query += "run LIKE 'gpt-deep%' AND eval_set = 'fineweb' AND loss IS NOT NULL ORDER BY run, step"
    with made.database.store.read() as tx:
        known = tx.exec_driver_sql(query).all()
    wait_until(lambda: rows.count() == len(known), 10)
    assert len(known) == 49  # of five runs with ten checkpoints each, one of which has no finite loss
    shown = [row.split("\t") for row in rows.all_inner_texts()]
    for cells, (run, step, loss, error) in zip(shown, known, strict=True):
        assert cells[:2] == [run, f"step {step:,}"]
        right = [loss, loss - 1.959964 * error, loss + 1.959964 * error]
        assert [float(cell) for cell in cells[2:]] == pytest.approx(right, rel=1e-6)
