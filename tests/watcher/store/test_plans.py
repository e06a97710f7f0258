"""What is asked for every checkpoint takes the same few steps however many there are, in a database without statistics.

SQLite then takes the index that names most of the columns asked for; a fresh database never saw ANALYZE.
"""

import pytest
from sqlalchemy.dialects import sqlite

from watcher.store.migrate import open_for_writing
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


@pytest.mark.parametrize("what", EVERY_TIME)
def test_a_statement_of_every_checkpoint_finds_its_rows_by_an_index(tmp_path, what):
    statement, table, by = EVERY_TIME[what]
    store = open_for_writing(str(tmp_path / "ckptwatch.db"))
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    with store.read() as tx:
        plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", (None,) * len(compiled.positiontup))
        steps = [row.detail for row in plan]
    store.close()
    assert any(table in step and by in step for step in steps), steps
    assert not any(step.startswith("SCAN") for step in steps), steps
