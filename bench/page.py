"""The overview over a million results in Chromium: first paint, first curves, script of a frame while 200 runs zoom."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.processes import machine
from bench.scale import fill
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.settings.schema import WebSettings
from watcher.state.folder import StateFolder
from watcher.store.migrate import open_for_writing

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
#: Runs before the page's own scripts: the longest callback of an animation frame, and the browser's own long tasks.
WATCH = """
  window.longest = 0; window.longTasks = [];
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (call) => ask((at) => {
    const begun = performance.now(); call(at); window.longest = Math.max(window.longest, performance.now() - begun);
  });
  new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({ type: "longtask", buffered: true });
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--zooms", type=int, default=40)


def run(said: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    print(f"# page: {machine()}")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.db"
        store = open_for_writing(str(path))
        steps = fill(store, said.results, 0, said.runs)
        store.close()
        print(f"{said.results:,} results, {said.runs} runs on 5 sets, {steps:,} steps on each curve")
        state = StateFolder.beside(str(path))
        state.create()
        address, stop = start_server(WebSettings(port=0), str(path), state, Log(-1))
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
                measure_paint(browser, address, said.repeat)
                measure_zoom(browser, address, said.zooms)
                browser.close()
        finally:
            stop()


def measure_paint(browser: Any, address: str, repeat: int) -> None:
    """From the navigation on, in a fresh page each time; the server's cache is cold the first time."""
    paints, curves = [], []
    for _ in range(repeat):
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        begun = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(".panel[data-points]").first.wait_for(timeout=120_000)
        curves.append(time.perf_counter() - begun)
        entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        paints.append(page.evaluate(entry) / 1000)
        page.context.close()
    show("first paint", paints)
    show("first panel drawn", curves)


def measure_zoom(browser: Any, address: str, zooms: int) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.add_init_script(WATCH)
    page.goto(address)
    page.locator(".panel[data-points]").first.wait_for(timeout=120_000)
    page.wait_for_timeout(5000)  # the other panels in view
    page.evaluate("window.longest = 0; window.longTasks.length = 0")
    page.locator(".panel .plot").first.focus()
    for turn in range(zooms):
        page.keyboard.press("+" if turn % 10 < 8 else "0")
        page.wait_for_timeout(120)
    longest, tasks = page.evaluate("[window.longest, window.longTasks]")
    shown = page.locator(".panel").first.get_attribute("data-curves")
    print(f"{zooms} zooms with {shown} runs shown: longest script of a frame {longest:.1f} ms; "
          f"tasks over 50 ms: {[round(task) for task in tasks]}")  # fmt: skip
    page.context.close()


def show(name: str, seconds: list[float]) -> None:
    print(
        f"{name}: first {seconds[0] * 1000:.0f} ms, median of {len(seconds)} {statistics.median(seconds) * 1000:.0f} ms"
    )
