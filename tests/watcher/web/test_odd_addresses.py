"""Addresses that somebody typed, cut or guessed: odd parameters and hostile names never make a page fail."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

import pytest

from tests.support.many_runs import many_runs
from tests.support.training import Training, say_healthy
from tests.watcher.web.test_pages import get
from watcher.web.routes import PAGES
from watcher.web.tables import HEADS

ODD = ("0", "-1", "1000000000", "9" * 25, "nonsense", "'\"%\\", "\0☃\ufffd", "²", "", "1e400")
NAMES = ("a'b\"c", "100%_\\", "läuft ☃ 跑", "$(rm) `x`", "q&a=b#c?d+e", "<b>x</b>", "\u202eevil", "²", "12", "x" * 300)
PLACES = {"queued": "/queue", "failed": "/queue", "files": "/queue", "sets": "/data"}
PLACES |= {"sinks": "/system", "launches": "/system", "events": "/system"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("odd"), runs=2, sets=2, points=2)
    one.database.job(1, "queued", "gpt-a-000", "fineweb")
    for name in NAMES:
        one.database.run(name, f"/out/{name}")
        one.database.eval_set(name, "fineweb", digest="sha256:fineweb")
        file = {"path": f"{name}.pt", "digest": f"sha256:{name}"}
        one.database.checkpoint(7, name, **file)
        shown = {"checkpoint": file["path"], "checkpoint_digest": file["digest"]}
        one.database.result(7, 3.0, name, "fineweb", **shown)
    say_healthy(one.state)
    yield one
    one.database.close()


def query(*parameters: tuple[str, str]) -> str:
    return "?" + urllib.parse.urlencode(parameters)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_shown_whatever_its_parameters_hold(url, name):
    path = PAGES[name][0].replace("{id:int}", "1")
    keys = ("run", "set", "page", "m", "x", "name", "of", "zoom")
    for odd in ODD:
        asked = query(*((key, odd) for key in keys), ("of", "gpt-a-000"))
        status, _, page = get(url + path + asked)
        assert status == (404 if name == "items" else 200), (path, odd, page[:200])


@pytest.mark.parametrize("key", HEADS)
def test_a_table_is_shown_whatever_its_sort_filter_and_page_are(url, key):
    path = PLACES.get(key, f"/{key}")
    for odd in ODD:
        of_table = [(f"{key}.{part}", odd) for part in ("sort", "down", "q", "page")]
        assert get(url + path + query(*of_table))[0] == 200, (key, odd)
        status, _, text = get(url + path + query(*of_table, ("table", key), ("format", "json"), ("run", odd)))
        assert status == 200 and key in json.loads(text)
    assert get(url + path + query(("table", key), ("format", "csv"), (f"{key}.sort", "☃")))[0] == 200


def test_a_number_that_belongs_to_nothing_is_404_however_long_it_is(url):
    for path in ("/runs/", "/checkpoints/", "/jobs/", "/results/", "/api/runs/"):
        for number in ("0", "9" * 18, "9" * 19, "9" * 3000, "-1", "²", "%ff"):
            assert get(url + path + urllib.parse.quote(number, safe="%"))[0] == 404, (path, number[:20])


def test_runs_of_any_name_are_compared_and_a_name_that_is_no_run_is_answered_in_words(url):
    baseline = ("of", "gpt-a-000@500")
    for name in NAMES:
        compared = json.loads(get(url + "/api/compare" + query(baseline, ("of", f"{name}@7")))[2])["compared"]
        assert [(row["b"], row["b_step"]) for row in compared[0]["rows"]] == [(3.0, 7)], name
        page = get(url + "/compare" + query(("of", name), ("of", f"{name}@7")))[2]
        assert "one is a run, the other a step" in page and "<b>x" not in page
    for odd in ODD:
        for of in (odd, f"{odd}@7", f"gpt-a-000@{odd}", f"gpt-a-000#{odd}"):
            assert get(url + "/compare" + query(("of", of), baseline, ("set", odd)))[0] == 200, of


def test_the_curves_and_results_that_a_script_asks_for_are_strict_json_whatever_it_asks(url):
    for odd in ODD:
        for path in ("/api/curves", "/api/bests", "/api/results"):
            asked = query(*((key, odd) for key in ("set", "metric", "x", "from", "to", "run", "after", "limit")))
            status, _, text = get(url + path + asked)
            assert status == 200 and isinstance(json.loads(text), dict), (path, odd)
