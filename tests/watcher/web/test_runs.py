"""Pages of runs and comparisons: any two or more runs or steps, configurations side by side, notes and tags."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.many_runs import many_runs
from tests.support.training import Training, dashboard, say_healthy
from tests.watcher.web.test_pages import get
from watcher.errors import ConfigError
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.orders import apply_inbox
from watcher.report.comparison import paired
from watcher.settings.load import load_settings
from watcher.settings.schema import WebSettings
from watcher.store.read.panels import Panels
from watcher.store.read.windows import KeptWindows

TOKEN = "0123456789abcdef"
A, B, C = "gpt-a-000", "gpt-b-001", "gpt-lr-002"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("runs"), runs=3, sets=2, points=6, windows=True)
    say_healthy(one.state)
    yield one
    one.database.close()


@pytest.fixture(scope="module")
def url(made) -> Iterator[str]:
    with dashboard(made, edit=True, edit_token=TOKEN) as address:
        yield address


def compared(url: str, *of: str, **more: str) -> dict:
    query = urllib.parse.urlencode([("of", each) for each in of] + list(more.items()))
    status, _, text = get(f"{url}/api/compare?{query}")
    assert status == 200 and get(f"{url}/compare?{query}")[0] == 200
    return json.loads(text)


def test_three_runs_are_compared_with_the_first_on_every_set_and_shared_step(url, made):
    content = compared(url, A, B, C)
    assert [other["name"] for other in content["compared"]] == [B, C]
    assert [len(other["rows"]) for other in content["compared"]] == [12, 12]
    order = [(row["a_step"], row["eval_set"]) for row in content["compared"][0]["rows"]]
    assert order == [(step, name) for step in range(3000, 0, -500) for name in ("fineweb", "wikitext")]
    row = next(r for r in content["compared"][0]["rows"] if (r["eval_set"], r["a_step"]) == ("fineweb", 1500))
    windows = KeptWindows(made.database.store)
    left, right = windows.get(row["a_id"]), windows.get(row["b_id"])
    right_value = paired(left[0], right[0], left[1])
    assert row["difference"] == pytest.approx(row["b"] - row["a"]) and row["method"] == "paired"
    assert (row["low"], row["high"], row["p"]) == (right_value.low, right_value.high, right_value.p)


def test_two_steps_of_one_run_and_steps_of_two_runs_are_compared_too(url):
    (one,) = compared(url, f"{A}@1000", f"{A}@3000", set="wikitext")["compared"]
    assert [(row["a_step"], row["b_step"], row["eval_set"]) for row in one["rows"]] == [(1000, 3000, "wikitext")]
    (other,) = compared(url, f"{A}@1000", f"{B}@3000")["compared"]
    assert {row["eval_set"] for row in other["rows"]} == {"fineweb", "wikitext"}


def test_of_named_steps_nothing_else_is_read_and_a_step_without_a_run_means_each_run_that_has_it(url, monkeypatch):
    read, points = [], Panels.points
    monkeypatch.setattr(Panels, "points", lambda self, *given: read.append(given[2:]) or points(self, *given))
    (one,) = compared(url, "1000", "3000", set="fineweb")["compared"]
    assert [(row["a_step"], row["b_step"]) for row in one["rows"]] == [(1000, 3000)] * 3
    assert set(read) == {((1000, 1000),), ((3000, 3000),)}


def test_a_name_that_does_not_exist_is_answered_with_the_nearest_one(url):
    assert "did you mean 'gpt-a-000'" in compared(url, "gpt-aa-000", B)["problem"]
    assert "the nearest are 1000 and 1500" in compared(url, f"{A}@1100", f"{A}@1500")["problem"]
    assert "one is a run, the other a step" in compared(url, A, f"{B}@1500")["problem"]


def test_configurations_stand_side_by_side_and_differences_are_marked(url):
    rows = {row["key"]: row for row in compared(url, A, B)["config"]["rows"]}
    assert rows["n_layer"] == {"key": "n_layer", "cells": ["6", "7"], "differs": True}
    assert rows["vocab_size"]["differs"] is False and rows["vocab_size"]["cells"] == ["50304", "50304"]
    page = get(f"{url}/compare?of={A}&of={B}")[2]
    assert page.index("n_layer") < page.index("vocab_size")  # what differs comes first
    assert page.count('class="differs"') == sum(row["differs"] for row in rows.values())


def test_the_page_of_a_run_shows_the_best_within_noise_that_every_other_page_shows(url):
    run = json.loads(get(f"{url}/api/runs/1")[2])
    overview = json.loads(get(f"{url}/api/overview?set=fineweb")[2])
    best = next(row["best"]["id"] for row in overview["runs"] if row["name"] == A)
    assert next(each["best"]["id"] for each in run["sets"] if each["eval_set"] == "fineweb") == best
    assert get(f"{url}/runs/99")[0] == 404


def post(url: str, origin: str | None = "same", path: str = "/annotations", **fields: str) -> tuple[int, str]:
    request = urllib.request.Request(url + path, urllib.parse.urlencode(fields).encode(), method="POST")
    if origin is not None:
        request.add_header("Origin", url if origin == "same" else origin)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.url
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def apply(made: Training) -> None:
    apply_inbox(made.database.store, made.state, Log(-1), Isolation(Log(-1)), 0.0)


def test_a_note_and_a_tag_go_through_the_inbox_and_are_shown_escaped_and_can_be_removed(url, made):
    note = {"run": A, "token": TOKEN, "back": "/runs/1"}
    assert post(url, kind="note", text="lr <b>too</b> high", **note) == (200, f"{url}/runs/1")
    assert post(url, kind="tag", text="baseline", **note)[0] == 200
    assert "baseline" not in get(f"{url}/runs")[2]  # the page itself writes nothing
    apply(made)
    page = get(f"{url}/runs/1")[2]
    assert "lr &lt;b&gt;too&lt;/b&gt; high" in page and "baseline" in get(f"{url}/runs")[2]
    number = json.loads(get(f"{url}/api/runs/1")[2])["tags"][0]["id"]
    assert post(url, remove=str(number), **note)[0] == 200
    apply(made)
    assert "baseline" not in get(f"{url}/runs")[2]


@pytest.mark.parametrize(
    ("origin", "fields", "status"),
    [
        ("same", {"token": "wrong"}, 403),
        ("same", {}, 403),
        (None, {"token": TOKEN}, 403),
        ("https://evil.example", {"token": TOKEN}, 403),
        ("http://127.0.0.1:1", {"token": TOKEN}, 403),
        ("same", {"token": TOKEN, "text": " "}, 400),
        ("same", {"token": TOKEN, "kind": "other"}, 400),
        ("same", {"token": TOKEN, "text": "x" * 20_000}, 413),
    ],
)
def test_a_note_without_token_or_from_another_page_is_refused_and_leaves_nothing_behind(
    url, made, origin, fields, status
):
    before = sorted(made.state.inbox.iterdir())
    assert post(url, origin, **{"run": A, "kind": "note", "text": "x", **fields})[0] == status
    assert sorted(made.state.inbox.iterdir()) == before


def test_only_one_path_takes_a_post_and_none_without_the_setting(url, made):
    assert post(url, path="/queue", token=TOKEN)[0] == 405
    address, stop = start_server(WebSettings(port=0), made.url, made.state, Log(-1))
    try:
        assert post(address.rstrip("/"), run=A, kind="note", text="x", token=TOKEN)[0] == 405
        assert "edit token" not in get(f"{address}runs/1")[2]
    finally:
        stop()


def test_an_edit_without_a_long_token_is_no_setting():
    with pytest.raises(ConfigError, match="16 characters"):
        load_settings(None, {"web": {"edit": True, "edit_token": "short"}})
