"""The one file that `plot --out curve.html` writes, in a real Chromium."""

from __future__ import annotations

import pytest

from tests.browser.pixels import COLOURED
from tests.support.waiting import wait_until
from tests.watcher.cli.test_plot import two_runs
from watcher.cli import main


@pytest.mark.browser
def test_the_page_draws_curve_band_logged_loss_and_best(browser, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    two_runs(tmp_path / "r.db").close()
    assert main(["plot", "--out", "c.html", "--db", str(tmp_path / "r.db")]) == 0
    wrong: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.goto((tmp_path / "c.html").as_uri())
    wait_until(lambda: page.locator("#chart").get_attribute("data-points") is not None)
    assert page.locator("#chart").get_attribute("data-points") == "7"
    assert page.locator("b").count() == 0 and page.locator("details tr").count() == 7
    both = page.evaluate(COLOURED)
    page.get_by_label("95 % band").uncheck()
    without_band = page.evaluate(COLOURED)
    page.get_by_label("logged by trainer (dashed)").uncheck()
    assert both >= without_band > page.evaluate(COLOURED) > 0
    linear = page.locator("#chart canvas").screenshot()
    page.get_by_text("log", exact=True).click()
    assert page.locator("#chart canvas").screenshot() != linear
    page.locator("#chips").get_by_text("gpt / val").click()
    assert page.locator("#chart").get_attribute("data-points") == "4"
    page.locator("#chart").focus()
    page.keyboard.press("ArrowRight")
    assert "wide" in page.inner_text("#readout") and "step" in page.inner_text("#readout")
    page.close()
    assert wrong == []
