"""The page of samples: prompt by prompt, newest checkpoints first, every text as text and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.database import Database
from tests.support.sample_rows import sample_set, sample_texts
from tests.support.training import Training, dashboard, healthy
from tests.watcher.web.test_pages import get

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e &amp; \"'"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    database = Database(tmp_path_factory.mktemp("samples") / "c.db")
    database.run()
    database.run("other")
    sample_set(database, ("The ship", HOSTILE))
    for step in range(100, 1100, 100):
        number = database.checkpoint(step)
        sample_texts(database, number, {"The ship": f"sails {step}", HOSTILE: HOSTILE})
    yield healthy(database)
    database.close()


def test_the_texts_of_a_prompt_stand_step_by_step_the_newest_first(url):
    page = json.loads(get(f"{url}/samples?format=json")[2])
    first = page["prompts"][0]
    assert [each["step"] for each in first["texts"]] == list(range(1000, 200, -100))
    assert first["texts"][0]["text"] == "sails 1000" and first["settings"] == "greedy, at most 16 tokens"
    older = json.loads(get(f"{url}/samples?run=1&name=stories&page=2&format=json")[2])
    assert [each["step"] for each in older["prompts"][0]["texts"]] == [200, 100]
    assert (older["page"], older["last_page"], older["matching"]) == (2, 2, 10)


def test_a_text_is_text_whatever_a_model_writes(url):
    body = get(f"{url}/samples")[2]
    assert "<script>alert" not in body and "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e &amp;amp;" in body
    assert "\x1b" not in body and "\u202e" not in body


def test_a_checkpoint_links_to_its_samples_and_the_menu_has_them_where_there_are_any(url, tmp_path):
    body = get(f"{url}/checkpoints/1")[2]
    assert (
        '<a href="/samples?run=1&amp;name=stories">stories</a>' in body
        and '<a href="/samples">Samples</a>' in body.replace("\n", "")
    )
    database = Database(tmp_path / "empty.db")
    with dashboard(healthy(database)) as empty:
        assert "/samples" not in get(f"{empty}/")[2]
        assert "a <code>[[sample]]</code> section" in get(f"{empty}/samples")[2]
    database.close()


@pytest.mark.parametrize("query", ["?run=9", "?run=x&page=-1", "?page=99999999999999999999", "?name=none&page=0"])
def test_a_query_that_names_nothing_shows_the_page_all_the_same(url, query):
    assert get(f"{url}/samples{query}")[0] == 200
