"""A real Chromium on a real dashboard; skipped, with the reason, only where no Chromium is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.program import chromium
from tests.support.training import Training, dashboard, say_healthy, training

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="package")
def browser() -> Iterator:
    """One for the tests of this folder, closed before the tests of other folders begin."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    """One database and one server for each module: a test adds rows, none takes any away."""
    one = training(tmp_path_factory.mktemp("browser"), points=12)
    say_healthy(one.state)
    yield one
    one.database.close()


@pytest.fixture(scope="module")
def url(made) -> Iterator[str]:
    with dashboard(made) as address:
        yield address


@pytest.fixture
def page(browser) -> Iterator:
    """A page that fails the test for any error on its console."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    one, wrong = context.new_page(), []
    one.set_default_timeout(20_000)
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    one.complaints = wrong
    yield one
    context.close()
    assert not wrong, wrong
