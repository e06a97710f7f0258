"""Every page under axe-core in both themes: contrast, names, landmarks, tables; and keys, a small window, motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.many_runs import many_runs
from tests.support.training import Training, dashboard, say_healthy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
PAGES = (
    *("/", "/runs", "/runs/1", "/compare?of=gpt-a-000&of=gpt-b-001", "/checkpoints", "/checkpoints/1", "/results"),
    *("/queue", "/jobs/1", "/data", "/system", "/checkpoints/424242"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("access"), runs=4, sets=2, points=4, windows=True)
    number = one.database.checkpoint(9000, "gpt-a-000", "bad.pt")
    one.database.job(number, "failed", "gpt-a-000", "fineweb", hint="retry it")
    one.database.job(one.database.checkpoint(9500, "gpt-a-000"), "queued", "gpt-a-000", "fineweb")
    say_healthy(one.state, state="degraded", reasons=["the folder is missing"])
    yield one
    one.database.close()


@pytest.fixture(scope="module")
def url(made) -> Iterator[str]:
    with dashboard(made, edit=True, edit_token="0123456789abcdef") as address:
        yield address


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_on_any_page_in_either_theme(checked, url, path):
    checked.emulate_media(color_scheme="light")
    checked.goto(url + path)
    if path == "/":
        checked.locator(".panel[data-points]").first.wait_for()
    found = violations(checked, {"type": "tag", "values": RULES})
    checked.emulate_media(color_scheme="dark")
    wait_until(lambda: checked.evaluate("document.documentElement.dataset.theme") == "dark", 10)
    found += violations(checked, {"type": "rule", "values": ["color-contrast", "link-in-text-block"]})
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def checked(browser) -> Iterator:
    """A page with axe in it: its own policy would not let the script in."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.add_init_script(AXE)
    yield page
    context.close()


def violations(page, run_only: dict) -> list[str]:
    run = "only => axe.run(document, {runOnly: only, resultTypes: ['violations']})"
    return [
        f"{broken['id']}: {node['html'][:120]} {node['failureSummary'][:160]}"
        for broken in page.evaluate(run, run_only)["violations"]
        for node in broken["nodes"][:3]
    ]


def test_every_control_of_the_overview_is_reached_by_the_tab_key(page, url):
    page.goto(url)
    page.locator(".panel[data-points]").first.wait_for()
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.className"
            )
        )
    assert {
        "filter",
        "regex",
        "table-set",
        "show-all",
        "show-none",
        "sort",
        "show1",
        "m",
        "x",
        "xlog",
        "ylog",
        "band",
    } <= reached
    assert "plot" in reached and "theme" in reached


def test_the_table_of_a_small_window_keeps_its_columns_and_the_page_does_not_scroll_sideways(browser, url):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    for path in PAGES:
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        cut = "box => box.scrollWidth > box.clientWidth && box.getAttribute('aria-label')"
        assert not any(box.evaluate(cut) for box in page.locator(".scroll:has(table.stacked)").all()), path
        for here in page.locator("nav [aria-current]").all():  # the row of pages scrolls to it
            box = here.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, path
    context.close()


@pytest.mark.parametrize("width", [1024, 1400])
def test_neither_the_run_table_nor_the_row_of_pages_is_cut(page, url, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(url)
    page.locator(".panel[data-points]").first.wait_for()
    for box in (".runs-scroll", "nav", "#controls"):
        sizes = page.locator(box).evaluate("each => [each.scrollWidth, each.clientWidth]")
        assert sizes[0] <= sizes[1], (box, sizes)
    assert page.locator("header.top").bounding_box()["height"] < 70  # one row


def test_reduced_motion_stops_the_flash_of_new_rows(browser, url, made):
    moving = {}
    for motion in ("no-preference", "reduce"):
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto(url)
        page.get_by_text("live", exact=True).wait_for()
        row = {"checkpoint": f"{motion}.pt", "checkpoint_digest": f"sha256:{motion}"}
        number = made.database.result(len(motion), 4.0, "gpt-a-000", "fineweb", **row)
        fresh = page.locator(f'#newest tr[data-key="{number}"]')
        fresh.wait_for()
        wait_until(lambda fresh=fresh: "fresh" in (fresh.get_attribute("class") or ""), 10)
        moving[motion] = fresh.locator("td").first.evaluate("cell => getComputedStyle(cell).animationName")
        context.close()
    assert moving == {"no-preference": "fresh", "reduce": "none"}
