"""What is asked for every checkpoint takes the same few steps however many there are, in a database without statistics.

SQLite then takes the index that names most of the columns asked for; a fresh database never saw ANALYZE.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import sqlite

from watcher.store.engine import Store
from watcher.store.migrate import open_for_writing
from watcher.store.read.listing import ListingQuery, rows_of
from watcher.store.read.panels import Panels
from watcher.store.read.samples import SamplePages
from watcher.store.write import checkpoints, copies, queue, versions

EVERY_TIME = {
    "claim the jobs of a checkpoint": (queue._CLAIM, "jobs", "(checkpoint_id=? AND state=?)"),
    "the next jobs that are due": (
        queue._next_due(False, False).params(runs=["run"], at="", least=0),
        "jobs",
        "(run=? AND state=? AND priority>?)",
    ),
    "is this content being evaluated": (queue._CONTENT_RUNS, "jobs", "(state=?)"),  # few run at any time
    "the job of a cell": (checkpoints._JOB, "jobs", "(checkpoint_id=? AND eval_set_id=? AND model_digest=?)"),
    "the versions of a path": (checkpoints._VERSIONS, "checkpoints", "(run=? AND path=?)"),
    "contents that have a value": (copies._KNOWN, "results", "(run=? AND checkpoint_digest=? AND model_digest=?"),
    "a result of the same content": (copies._SOURCE, "results", "(run=? AND checkpoint_digest=? AND model_digest=?"),
    "the versions that stand at a path": (versions._VERSIONS, "checkpoints", "(run=? AND path=?)"),
    "the numbers of a path": (versions._NUMBERS, "results", "(run=? AND checkpoint=?)"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    made = open_for_writing(str(tmp_path_factory.mktemp("plans") / "ckptwatch.db"))
    yield made
    made.close()


@pytest.mark.parametrize("what", EVERY_TIME)
def test_a_statement_of_every_checkpoint_finds_its_rows_by_an_index(store, what):
    statement, table, by = EVERY_TIME[what]
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    with store.read() as tx:
        plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", (None,) * len(compiled.positiontup))
        steps = [row.detail for row in plan]
    assert any(table in step and by in step for step in steps), steps
    assert not any(step.startswith("SCAN") for step in steps), steps


ONE_CELL = {"run": "run", "eval_set": "set", "digest": "digest"}
#: What a page asks -> the tables that may hold a million rows, each with the columns its rows must be found by.
OF_PAGES = {
    "the checkpoints that have texts of a section": (
        lambda store: SamplePages(store).checkpoints("run", "name"),
        {"k": ("(run=?)",), "s": ("(checkpoint_id=? AND name=?",), "o": ("(run=? AND step=?)", "(run=? AND path=?)")},
    ),
    "the texts of a page": (
        lambda store: SamplePages(store).texts("name", [1, 2]),
        {"s": ("(checkpoint_id=? AND name=?",), "o": ("(run=? AND step=?)", "(run=? AND path=?)")},
    ),
    "newest and lowest of every curve": (
        lambda store: Panels(store).cells(),
        {"r": ("(run=? AND eval_set=?", "(run=? AND checkpoint=?")},
    ),
    "the points of a curve": (
        lambda store: Panels(store).points(ONE_CELL, ("step", "id", "loss")),
        {"r": ("(run=? AND eval_set=?",)},
    ),
}


@pytest.mark.parametrize("what", OF_PAGES)
def test_a_page_over_a_million_rows_finds_them_by_an_index(store, what):
    (ask, tables), asked = OF_PAGES[what], []
    event.listen(store.engine, "before_cursor_execute", lambda *of: asked.append(of[2:4]))
    ask(store)
    (statement, values) = next(each for each in asked if each[0].lstrip().startswith("SELECT"))
    with store.engine.connect() as connection:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    for table, by in tables.items():
        steps = [step for step in plan if step.split()[1] == table]
        assert steps and all(step.startswith("SEARCH") and any(each in step for each in by) for step in steps), plan


@pytest.mark.parametrize("table", ["results", "events"])
def test_the_first_page_of_a_table_is_read_in_the_order_of_its_key_not_sorted(store, table):
    asked: list = []
    event.listen(store.engine, "before_cursor_execute", lambda *of: asked.append(of[2:4]))
    rows_of(store, table, ListingQuery(sort="id", down=True))
    statement, values = next(each for each in asked if "LIMIT" in each[0])
    with store.engine.connect() as connection:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not any("TEMP B-TREE" in step for step in plan), plan
