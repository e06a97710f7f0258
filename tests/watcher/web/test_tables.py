"""Tables that can be sorted, filtered and paged on the server, and the same rows as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.parse
from collections.abc import Iterator

import pytest

from tests.support.many_runs import many_runs
from tests.support.training import Training, say_healthy
from tests.watcher.web.test_pages import get
from watcher.store.read.listing import LISTINGS
from watcher.web.tables import HEADS


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = many_runs(tmp_path_factory.mktemp("tables"), runs=6, sets=2, points=20)
    say_healthy(one.state)
    for step in range(3):
        number = one.database.checkpoint(90_000 + step, "gpt-a-000", f"bad_{step}%.pt")
        one.database.job(number, "failed", "gpt-a-000", "fineweb", kind="oom" if step else "crash", reason="=cmd()")
    yield one
    one.database.close()


def table(url: str, path: str, key: str, **query: str) -> dict:
    named = {name if name in ("run", "set") else f"{key}.{name}": value for name, value in query.items()}
    return json.loads(get(f"{url}{path}?{urllib.parse.urlencode({**named, 'format': 'json'})}")[2])["tables"][key]


def test_a_table_is_sorted_by_each_of_its_columns_in_both_directions(url):
    for path, key in (("/checkpoints", "checkpoints"), ("/results", "results"), ("/queue", "failed")):
        for column, _, _ in HEADS[key]:
            if column:
                up, down = (table(url, path, key, sort=column, down=way)["rows"] for way in "01")
                values = [row[column] for row in up if row[column] is not None]
                assert values == sorted(values), (key, column)
                values = [row[column] for row in down if row[column] is not None]
                assert values == sorted(values, reverse=True), (key, column)


def test_every_head_can_be_sorted_by_and_shows_the_order_to_a_screen_reader(url):
    assert all({column for column, _, _ in HEADS[key]} <= {"", *LISTINGS[key].columns} for key in LISTINGS)
    page = get(f"{url}/results?results.sort=loss&results.down=1")[2]
    assert re.search(
        r'<th scope="col" class="n" aria-sort="descending"><a class="sort" href="[^"]*results.down=0', page
    )


def test_rows_come_in_pages_that_together_are_all_rows_once(url):
    first = table(url, "/results", "results")
    assert (first["total"], first["last_page"], len(first["rows"])) == (240, 5, 50)
    pages = [table(url, "/results", "results", page=str(page))["rows"] for page in range(1, 6)]
    assert sorted(row["id"] for rows in pages for row in rows) == list(range(1, 241))
    assert table(url, "/results", "results", page="999999999999999999999")["page"] == 5
    assert 'rel="next"' in get(f"{url}/results")[2] and 'rel="prev"' in get(f"{url}/results?results.page=2")[2]


def test_words_are_searched_in_every_text_column_and_signs_of_like_are_plain_signs(url):
    assert {row["run"] for row in table(url, "/results", "results", q="WD-003 wiki")["rows"]} == {"gpt-wd-003"}
    assert table(url, "/checkpoints", "checkpoints", q="bad_1%")["total"] == 1
    assert table(url, "/checkpoints", "checkpoints", q="ste%p")["total"] == 0
    assert table(url, "/results", "results", q="' OR 1=1 --")["total"] == 0
    assert "Nothing matches" in get(f"{url}/results?results.q=nothing-like-it")[2]


def test_a_table_of_one_run_and_set_holds_only_theirs(url):
    rows = table(url, "/results", "results", run="2", set="wikitext")["rows"]
    assert {(row["run"], row["eval_set"]) for row in rows} == {("gpt-b-001", "wikitext")} and len(rows) == 20


def test_csv_and_json_are_the_rows_that_are_seen_of_all_pages_in_their_order(url):
    query = "results.q=gpt-b&results.sort=loss&results.down=0&table=results"
    status, headers, text = get(f"{url}/results?{query}&format=csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert status == 200 and headers["content-type"].startswith("text/csv")
    assert len(rows) == 40 and {row["run"] for row in rows} == {"gpt-b-001"}
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses == sorted(losses)
    same = json.loads(get(f"{url}/results?{query}&format=json")[2])["results"]
    assert [str(row["id"]) for row in same] == [row["id"] for row in rows]


def test_a_reason_that_looks_like_a_formula_is_text_in_the_csv(url):
    text = get(f"{url}/queue?table=failed&format=csv")[2]
    assert "'=cmd()" in text and ",=cmd()" not in text


def test_a_sort_or_table_that_does_not_exist_changes_nothing(url):
    odd = table(url, "/results", "results", sort="loss; DROP TABLE runs", down="7", page="-1")
    assert odd["rows"] == table(url, "/results", "results")["rows"]
    status, headers, _ = get(f"{url}/results?table=sqlite_master&format=csv")
    assert status == 200 and headers["content-type"].startswith("text/html")
