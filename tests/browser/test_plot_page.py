"""The one file that `plot --out curve.html` writes, in a real Chromium."""

from __future__ import annotations

import pytest

from tests.browser.pixels import COLOURED
from tests.browser.test_access import AXE, RULES, violations
from tests.support.many_runs import many_runs
from tests.support.training import say_healthy
from tests.support.waiting import wait_until
from tests.watcher.cli.test_plot import two_runs
from watcher.cli import main
from watcher.report.palette import LIGHT

pytestmark = pytest.mark.browser
POINTED = "(place) => document.querySelectorAll('.panel .status')[place].textContent"


@pytest.fixture
def opened(page, tmp_path, monkeypatch):
    """Draws a database into a file with these flags and opens it."""
    monkeypatch.chdir(tmp_path)

    def draw_and_open(database, *flags: str):
        assert main(["plot", "--out", "c.html", *flags, "--db", str(database)]) == 0
        page.goto((tmp_path / "c.html").as_uri())
        page.locator(".panel[data-points]").first.wait_for()
        return page

    return draw_and_open


def test_the_page_draws_curve_band_logged_loss_and_best(opened, tmp_path):
    two_runs(tmp_path / "r.db").close()
    page = opened(tmp_path / "r.db")
    canvas = ".panel canvas:not(.lit)"
    assert page.locator(".panel").get_attribute("data-points") == "7"
    assert page.locator(".status b").count() == 0 and page.locator("details tr").count() == 7
    picture = "(selector) => document.querySelector(selector).toDataURL()"
    both, whole = page.evaluate(COLOURED, canvas), page.evaluate(picture, canvas)
    page.get_by_label("95 % band").uncheck()
    wait_until(lambda: page.evaluate(picture, canvas) != whole, 10)
    without_band = page.evaluate(COLOURED, canvas)
    page.get_by_label("logged by trainer (+)").uncheck()
    wait_until(lambda: page.evaluate(COLOURED, canvas) < without_band, 10)
    assert both >= without_band and page.evaluate(COLOURED, canvas) > 0
    linear = page.evaluate(picture, canvas)
    page.get_by_text("log", exact=True).last.click()
    wait_until(lambda: page.evaluate(picture, canvas) != linear, 10)
    page.locator("#chips").get_by_text("gpt").click()
    wait_until(lambda: page.locator(".panel").get_attribute("data-points") == "4", 10)
    page.locator(".panel .plot").focus()
    page.keyboard.press("ArrowRight")
    assert "wide" in page.evaluate(POINTED, 0) and "step 100" in page.evaluate(POINTED, 0)


def test_the_pictures_of_the_documentation_are_drawn_by_their_command(browser, tmp_path):
    from docs import pictures

    made = many_runs(tmp_path / "many", runs=5, sets=4, points=3)
    say_healthy(made.state)
    pictures.plot(made, tmp_path / "plot.png")
    pictures.overview(browser, made, tmp_path / "dashboard.png")
    made.database.close()
    for name in ("plot.png", "dashboard.png"):
        new, kept = ((folder / name).read_bytes() for folder in (tmp_path, pictures.IMAGES))
        assert new[:24] == kept[:24], name  # a PNG of that width and height


def test_each_set_and_metric_has_a_panel_that_shows_the_run_pointed_at_and_zooms_with_the_others(opened, tmp_path):
    made = many_runs(tmp_path / "many", runs=3, sets=2, points=6)
    made.database.close()
    page = opened(made.url, "--metric", "loss", "--metric", "ppl", "--run", "gpt-b-001", "--run", "gpt-lr-002")
    heads = page.locator(".panel h2").all_inner_texts()
    assert heads == [f"{name} {label}" for label in ("loss (nats per token)", "perplexity")
                     for name in ("fineweb", "wikitext")]  # fmt: skip
    swatches = page.locator("#chips svg")
    inks = [swatches.nth(place).evaluate("each => getComputedStyle(each).color") for place in (0, 1)]
    assert inks == [f"rgb({int(ink[1:3], 16)}, {int(ink[3:5], 16)}, {int(ink[5:], 16)})" for ink in LIGHT[1:3]]
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    for place in range(4):
        wait_until(lambda place=place: "gpt-" in page.evaluate(POINTED, place), 10)
    assert len({page.evaluate(POINTED, place)[:20] for place in range(4)}) == 1  # one run at one step in all panels
    lit = ".panel:first-child canvas.lit"
    assert page.evaluate(COLOURED, lit) > 100  # over the others, which are not drawn anew
    before = [page.locator(".panel canvas:not(.lit)").nth(place).screenshot() for place in (0, 3)]
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 5, steps=3)
    page.mouse.up()
    for place, old in zip((0, 3), before, strict=True):
        canvas = page.locator(".panel canvas:not(.lit)").nth(place)
        wait_until(lambda canvas=canvas, old=old: canvas.screenshot() != old, 10)


#: Before the page's own script: how many canvases of curves were cleared, to be drawn anew, at each animation frame.
COUNT_DRAWN = """
  window.drawn = new Map();
  let frame = 0;
  const ask = window.requestAnimationFrame.bind(window), clear = CanvasRenderingContext2D.prototype.clearRect;
  window.requestAnimationFrame = (call) => ask((at) => { frame = at; call(at); });
  CanvasRenderingContext2D.prototype.clearRect = function (...box) {
    if (!this.canvas.matches(".lit")) window.drawn.set(frame, (window.drawn.get(frame) || new Set()).add(this.canvas));
    return clear.apply(this, box);
  };
"""


def test_of_two_hundred_runs_one_panel_is_drawn_in_each_frame_and_uplot_is_kept(opened, tmp_path, page):
    made = many_runs(tmp_path / "many", runs=200, sets=2, points=2)
    made.database.close()
    page.add_init_script(COUNT_DRAWN)
    opened(made.url, "--metric", "loss", "--metric", "ppl")
    page.locator(".panel[data-points]").nth(3).wait_for()
    axes = page.evaluate_handle("[...document.querySelectorAll('.panel .uplot')]")
    whole = page.locator(".panel").first.get_attribute("data-range")
    page.evaluate("window.drawn.clear()")
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 20, steps=3)
    page.mouse.up()
    ranges = "[...document.querySelectorAll('.panel')].map((panel) => panel.dataset.range)"
    wait_until(lambda: len(set(page.evaluate(ranges))) == 1 and whole not in page.evaluate(ranges), 10)
    assert sorted(page.evaluate("[...window.drawn.values()].map((canvases) => canvases.size)")) == [1] * 4
    assert axes.evaluate("all => all.every((each) => each.isConnected)")


def test_sixty_runs_fit_a_small_window_and_axe_finds_nothing(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = many_runs(tmp_path / "many", runs=60, sets=2, points=3)
    made.database.close()
    assert main(["plot", "--out", "c.html", "--title", "Sixty runs", "--db", made.url]) == 0
    context = browser.new_context(bypass_csp=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.add_init_script(AXE)
    page.goto((tmp_path / "c.html").as_uri())
    page.locator(".panel[data-points]").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".chip.named").count() == 8
    assert not violations(page, {"type": "tag", "values": RULES})
    page.emulate_media(color_scheme="dark")
    assert not violations(page, {"type": "rule", "values": ["color-contrast"]})
    context.close()
