"""The overview over a million results in Chromium: first paint, first curves, script of a frame while 200 runs zoom."""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.processes import machine
from bench.scale import fill
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.settings.schema import WebSettings
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.migrate import open_for_writing
from watcher.store.schema import results

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
    parser.add_argument("--database", type=Path, help="kept and used again: filled where it does not exist")


def run(options: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    print(f"# page: {machine()}")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        path = options.database or Path(folder) / "page.db"
        filled = path.exists()
        store = open_for_writing(str(path))
        if not filled:
            fill(store, options.results, 0, options.runs)
        print(f"{options.results:,} results, {options.runs} runs on 5 sets")
        state = StateFolder.beside(str(path))
        state.create()
        address, stop = start_server(WebSettings(port=0), str(path), state, Log(-1))
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
                measure_paint(browser, f"{address}healthz", "one line of JSON: the browser's own part", options.repeat)
                measure_paint(browser, address, "overview, just started", 1)
                measure_server(address, store, options.repeat)
                measure_paint(browser, address, "overview, nothing new", options.repeat)
                measure_paint(
                    browser, address, "overview, a result came just before", options.repeat, partial(touch, store)
                )
                measure_zoom(browser, address, options.zooms)
                browser.close()
        finally:
            stop()
            store.close()


def touch(store: Store) -> None:
    """One more result: what the server keeps of the whole database holds no longer."""
    with store.write() as tx:
        columns = ", ".join(
            c.name for c in results.c if c.name not in ("id", "step", "checkpoint", "checkpoint_digest")
        )
        unique = f"{time.time_ns()}"
        names = f"INSERT INTO results (step, checkpoint, checkpoint_digest, {columns})"
        tx.execute(text(f"{names} SELECT step + 1, '{unique}', '{unique}', {columns} FROM results WHERE id = 1"))


def measure_server(address: str, store: Store, repeat: int) -> None:
    """CPU milliseconds of this process for the page itself: what others do on the machine does not count."""
    busy = math.inf
    while busy > 0.02:  # what the last page asked for is still being computed
        before_s = time.process_time()
        time.sleep(0.5)
        busy = time.process_time() - before_s
    for what, before in (("nothing new", lambda: None), ("a result came just before", partial(touch, store))):
        took = []
        for _ in range(repeat + 1):
            before()
            opened = urllib.request.Request(address, headers={"Sec-Fetch-Mode": "navigate"})
            begun = time.process_time()
            with urllib.request.urlopen(opened) as answer:
                size = len(answer.read())
            took.append((time.process_time() - begun) * 1000)
        print(f"the page of {size // 1000} kB, {what}: CPU of the server, median {statistics.median(took[1:]):.0f} ms, "
              f"at first {took[0]:.0f} ms")  # fmt: skip


def measure_paint(
    browser: Any, address: str, what: str, repeat: int, before: Callable[[], None] = lambda: None
) -> None:
    """Milliseconds from the navigation on, in a fresh page with an empty cache each time.

    first byte: the server's part. paint: the first text on the screen (First Contentful
    Paint). numbers: in the run table. panel: the first curves.
    """
    rows: list[tuple[float, ...]] = []
    for _ in range(repeat):
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        before()
        begun = time.perf_counter()
        page.goto(address, wait_until="load")
        while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
            time.sleep(0.01)  # not wait_for_function: the page's own policy forbids its eval
        row = page.evaluate(
            """[performance.getEntriesByType("navigation")[0].responseStart,
                performance.getEntriesByType("navigation")[0].responseEnd,
                performance.getEntriesByName("first-contentful-paint")[0].startTime]"""
        )
        if "healthz" not in address:
            page.locator("#run-rows [title='being read']").first.wait_for(state="detached", timeout=120_000)
            row.append((time.perf_counter() - begun) * 1000)
            page.locator(".panel[data-points]").first.wait_for(timeout=120_000)
            row.append((time.perf_counter() - begun) * 1000)
        rows.append(tuple(row))
        page.context.close()
    names = ("first byte", "last byte", "paint", "numbers", "panel")
    columns = list(zip(*rows, strict=True))
    shown = [
        f"{name} {statistics.median(column):.0f} (at most {max(column):.0f})"
        for name, column in zip(names, columns, strict=False)
    ]
    print(f"{what}, {repeat} times, median ms: {', '.join(shown)}")


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
