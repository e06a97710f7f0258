"""Draw docs/images/*.png from the code as it is: `python -m docs.pictures` (needs Chromium and playwright).

The runs in them are the tests' sample database. Run it after a change of the looks, and look at the pictures.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.program import chromium
from tests.support.many_runs import many_runs
from tests.support.training import Training, dashboard, say_healthy
from tests.support.waiting import wait_until
from watcher.cli import main as ckptwatch

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1400, 900
TITLE = "Five runs on four validation sets"


def main(folder: Path = IMAGES) -> None:
    with tempfile.TemporaryDirectory() as place:
        made = many_runs(Path(place), runs=12, sets=4, points=20, windows=True)
        say_healthy(made.state)
        try:
            plot(made, folder / "plot.png")
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
                overview(browser, made, folder / "dashboard.png")
                browser.close()
        finally:
            made.database.close()


def plot(made: Training, out: Path) -> None:
    runs = [f"--run=gpt-{name}" for name in ("a-000", "b-001", "lr-002", "wd-003", "deep-004")]
    status = ckptwatch(["plot", "--out", str(out), "--title", TITLE, *runs, "--db", made.url])
    if status:
        raise SystemExit(status)


def overview(browser: Browser, made: Training, out: Path) -> None:
    with dashboard(made) as address:
        while not json.loads(urlopen(f"{address}/api/bests").read())["complete"]:
            pass  # each answer takes up to a second: the best points are known before the page asks for curves
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.get_by_text("live", exact=True).wait_for()
        wait_until(lambda: page.locator(".panel[data-points]").count() >= 4)
        page.screenshot(path=out)
        page.close()


if __name__ == "__main__":
    main()
