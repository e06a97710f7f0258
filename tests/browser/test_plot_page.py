"""The one file that `plot --out curve.html` writes, in a real Chromium."""

from __future__ import annotations

import pytest

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
    drawn = {name: page.locator(f"#plot .{name}").count() for name in ("curve", "band", "logged", "best")}
    assert drawn == {"curve": 2, "band": 2, "logged": 1, "best": 2}
    assert page.locator("b").count() == 0
    straight = page.locator("#plot .curve").first.get_attribute("d")
    page.get_by_label("logarithmic").check()
    assert page.locator("#plot .curve").first.get_attribute("d") != straight
    page.get_by_label("gpt / val", exact=True).uncheck()
    assert page.locator("#plot .curve").count() == 1
    page.hover("#plot")
    assert "wide" in page.inner_text("#reading")
    page.close()
    assert wrong == []
