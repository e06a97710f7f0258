"""What a browser gets that opens the overview over very many results: what is known at once, and the rest on asking."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.many_runs import many_runs
from tests.support.training import Training, say_healthy
from tests.watcher.web.test_pages import get
from watcher.store.read.panels import Panels
from watcher.web import overview_facts
from watcher.web.curve_cache import CurveCache
from watcher.web.remembered import Remembered


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("once"), runs=3, sets=2, points=4)
    say_healthy(one.state)
    yield one
    one.database.close()


def opened(address: str) -> str:
    """As a browser asks that opens the page."""
    request = urllib.request.Request(address, headers={"Sec-Fetch-Mode": "navigate"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_a_page_over_many_results_is_opened_without_the_long_questions_and_says_what_is_pending(url, made, monkeypatch):
    monkeypatch.setattr(overview_facts, "AT_ONCE_MAX", 10)
    asked, long_question = [], Panels.cells
    monkeypatch.setattr(Panels, "cells", lambda self: asked.append(1) or long_question(self))
    page = opened(f"{url}/?m=loss,ppl")
    assert asked == [] and '<div class="overview" data-pending>' in page
    assert re.findall(r'data-name="([^"]+)"', page) == ["gpt-a-000", "gpt-b-001", "gpt-lr-002"]
    panels = re.findall(r'class="card panel".* data-key="([^"]+)"', page)
    assert panels == ["loss/fineweb", "loss/wikitext", "ppl/fineweb", "ppl/wikitext"]
    whole = get(f"{url}/")[2]  # as the page's script asks
    assert len(asked) == 1 and "data-pending" not in whole and re.findall(r'data-newest="([^"]+)"', whole)
    assert "data-pending" not in opened(f"{url}/") and len(asked) == 1  # nothing has changed since
    path = {"checkpoint": "late.pt", "checkpoint_digest": "sha256:late"}
    number = made.database.result(9000, 4.4444, "gpt-b-001", "fineweb", **path)
    page = opened(f"{url}/")
    assert "data-pending" in page and len(asked) == 1  # the numbers of before, and the last results of now
    assert re.findall(r'data-newest="([^"]+)"', page) == re.findall(r'data-newest="([^"]+)"', whole)
    assert f'<tr data-key="{number}">' in page and "4.4444" in page
    assert "4.4444" in get(f"{url}/")[2] and len(asked) == 2


def test_with_few_results_the_page_is_whole_at_once(url):
    assert "data-pending" not in opened(f"{url}/")


def test_of_threads_that_ask_the_same_one_asks_the_database_and_a_write_is_never_missed():
    stamp, asked, go = ["1"], [], threading.Event()
    known = Remembered(lambda: stamp[0])

    def slow() -> int:
        go.wait(10)
        asked.append(stamp[0])
        return len(asked)

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(known.get("a", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert answers == [1, 1, 1, 1] and known.last("a") == (1, True)
    stamp[0] = "2"
    assert known.last("a") == (1, False) and known.get("a", slow) == 2
    stamp[0] = ""  # a server: what is known may always be old
    assert known.get("a", slow) == 3 and known.last("a") == (3, False)


def test_curves_may_be_forgotten_while_another_thread_adds_some():
    class Changing:
        def touched_since(self, mark: tuple[int, str]) -> tuple[set, set]:
            return {("run", "set")}, set()

    class Key(str):
        """The name of a run; whoever compares it does so while a curve is added."""

        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            cache._curves[(f"new {len(cache._curves)}", "set")] = (0.0, "")
            return str.__eq__(self, other)

    cache = CurveCache(Changing(), {}, {})  # type: ignore[arg-type]
    cache.refresh((1, ""))
    cache._curves |= {(Key("run"), "set"): (0.0, ""), (Key("other"), "set"): (0.0, "")}
    cache.refresh((2, ""))
    assert [str(run) for run, _ in cache._curves if not run.startswith("new")] == ["other"]
