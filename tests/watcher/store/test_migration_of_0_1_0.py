"""A database of 0.1.0 (schema 0001) keeps every row, and what a user put into it, when this version opens it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from watcher.store import views
from watcher.store.engine import sqlite_engine
from watcher.store.migrate import open_for_writing
from watcher.store.read import results as reads
from watcher.store.schema import APPLICATION_ID, metadata

MIGRATIONS = Path(__file__).parents[3] / "migrations"
AT = "2026-01-01T00:00:00.000000Z"


def upgraded(path: Path, revision: str) -> None:
    """The schema of an earlier version, with views of its names."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = sqlite_engine(path, readonly=False)
    with engine.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, revision)
        for name, query in views.VIEWS.items():
            tx.exec_driver_sql(f"CREATE VIEW {name} AS SELECT 1 AS one -- {len(query)}")
    engine.dispose()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Two results with their windows, a failed and a queued job, an open launch: as 0.1.0 wrote them."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    upgraded(path, "0001")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("INSERT INTO runs (name, dir, created_at) VALUES ('gpt', '/out', ?)", (AT,))
    connection.execute(
        "INSERT INTO eval_sets (run, name, digest, spec, current, created_at) VALUES ('gpt', 'val', 'e', '{}', 1, ?)",
        (AT,),
    )
    for number in range(1, 5):
        connection.execute(
            "INSERT INTO checkpoints (run, path, digest, format, size_bytes, dev, inode, mtime_ns, ctime_ns, step,"
            " step_source, saved_at, registered_at) VALUES ('gpt', ?, ?, 'zip', 9, 1, ?, 5, 5, ?, 'name', ?, ?)",
            (f"step_{number}.pt", f"d{number}", number, number, AT, f"2026-01-01T00:0{number}:00.000000Z"),
        )
    for number, state in ((1, "succeeded"), (2, "succeeded"), (3, "failed"), (4, "queued")):
        ended = AT if state != "queued" else None
        kind = "data" if state == "failed" else None
        connection.execute(
            "INSERT INTO jobs (checkpoint_id, eval_set_id, run, state, kind, order_key, enqueued_at, finished_at)"
            " VALUES (?, 1, 'gpt', ?, ?, 5, ?, ?)",
            (number, state, kind, AT, ended),
        )
        connection.execute(
            "INSERT INTO attempts (job_id, launch_id, token, claimed_at) VALUES (?, 'l', ?, ?)", (number, number, AT)
        )
    connection.execute(
        "INSERT INTO launches (id, owner, home, executor, folder, device, world_size, started_at)"
        " VALUES ('l', 'host', 'state-1', 'local', '/l', 'cpu', 1, ?)",
        (AT,),
    )
    for number, loss in ((1, 3.0), (2, 2.5)):
        connection.execute(
            "INSERT INTO results (run, checkpoint, step, eval_set, loss, finite, tokens, seq_len, stride, batch_size,"
            " dtype, device, world_size, load_seconds, eval_seconds, tokens_per_second, peak_memory_bytes,"
            " checkpoint_digest, eval_digest, evalcore_version, torch_version, attempt, saved_at, evaluated_at)"
            " VALUES ('gpt', ?, ?, 'val', ?, 1, 9, 4, 4, 1, 'float32', 'cpu', 1, 0, 0, 0, 0, ?, 'e', '0.1.0', '2', 1,"
            " ?, ?)",
            (f"step_{number}.pt", number, loss, f"d{number}", AT, AT),
        )
        connection.execute("INSERT INTO windows (result_id, nats, targets) VALUES (?, x'01', x'02')", (number,))
    connection.execute(
        "INSERT INTO exports (sink, kind, subject_id, state, enqueued_at) VALUES ('csv','result',2,'done',?)", (AT,)
    )
    connection.commit()
    connection.close()
    return path


def rows(path: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_database_of_0_1_0_keeps_its_rows_windows_and_ids(old: Path) -> None:
    columns = [row[1] for row in rows(old, "PRAGMA table_info(results)")]
    before = rows(old, f"SELECT {', '.join(columns)} FROM results ORDER BY id")
    store = open_for_writing(os.fspath(old))
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()
    assert rows(old, f"SELECT {', '.join(columns)} FROM results ORDER BY id") == before
    assert rows(old, "SELECT result_id, nats FROM windows ORDER BY result_id") == [(1, b"\1"), (2, b"\1")]
    assert rows(old, "SELECT state, model_digest, again FROM jobs ORDER BY id") == [
        ("succeeded", "", 0), ("succeeded", "", 0), ("failed", "", 0), ("queued", "", 0),
    ]  # fmt: skip
    assert rows(old, "SELECT count(*) FROM attempts") == [(4,)]
    assert rows(old, "SELECT instance_id FROM launches") == [("state-1",)]
    assert (
        rows(old, "SELECT observed_at = registered_at, undone, content_digest FROM checkpoints") == [(1, 0, None)] * 4
    )
    assert rows(old, "SELECT model_digest, content_digest, family, task, weights FROM results") == [(None,) * 5] * 2
    assert rows(old, "SELECT step, loss FROM curve ORDER BY step") == [(1, 3.0), (2, 2.5)]
    assert rows(old, "PRAGMA foreign_key_check") == []
    assert len(list(old.parent.glob("old.db.backup-*"))) == 1


def test_the_new_columns_of_results_come_last_and_in_the_public_order(old: Path) -> None:
    open_for_writing(os.fspath(old)).close()
    added = (
        *("task", "items", "accuracy", "accuracy_norm", "accuracy_stderr", "random_baseline", "weights"),
        *("model_digest", "content_digest", "family", "assumed"),
    )
    names = tuple(row[1] for row in rows(old, "PRAGMA table_info(results)"))
    assert names[-len(added) :] == added
    assert names == reads.RESULT_COLUMNS


def test_what_a_user_added_to_the_database_outlives_the_migration(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("INSERT INTO notes VALUES ('mine')")
        connection.execute("CREATE VIEW mine AS SELECT step, loss FROM results WHERE loss < 3")
        connection.execute("CREATE INDEX by_loss ON results (loss)")
        connection.execute("CREATE TRIGGER told AFTER INSERT ON results BEGIN INSERT INTO notes VALUES (new.loss); END")
    open_for_writing(os.fspath(old)).close()
    assert rows(old, "SELECT * FROM notes") == [("mine",)]
    assert rows(old, "SELECT * FROM mine") == [(2, 2.5)]
    assert rows(old, "SELECT name FROM sqlite_master WHERE name IN ('told', 'by_loss') ORDER BY name") == [
        ("by_loss",),
        ("told",),
    ]


def test_the_id_of_a_deleted_result_is_never_used_again(old: Path) -> None:
    open_for_writing(os.fspath(old)).close()
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("DELETE FROM results WHERE id = 2")
        columns = (
            "run, checkpoint, step, eval_set, loss, finite, tokens, seq_len, batch_size, dtype, device, world_size"
        )
        rest = "load_seconds, eval_seconds, tokens_per_second, peak_memory_bytes, checkpoint_digest, eval_digest"
        last = "evalcore_version, torch_version, attempt, saved_at, evaluated_at"
        every = f"{columns}, {rest}, {last}"
        connection.execute(
            f"INSERT INTO results ({every}) SELECT {every.replace('checkpoint,', 'checkpoint || 2,', 1)} FROM results"
        )
    assert rows(old, "SELECT max(id) FROM results") == [(3,)]


def test_a_rejection_from_before_hints_were_kept_stays_and_has_none(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    upgraded(path, "0002")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO candidates (run, path, kind, reason, final, at)"
            " VALUES ('gpt', 'a.pt', 'corrupt', 'cut', 1, ?)",
            (AT,),
        )
    open_for_writing(os.fspath(path)).close()
    assert rows(path, "SELECT checkpoint, reason, hint FROM failures") == [("a.pt", "cut", None)]
    (copy,) = tmp_path.glob("r.db.backup-*")
    assert rows(copy, "SELECT path, reason FROM candidates") == [("a.pt", "cut")]
    assert "hint" not in [row[1] for row in rows(copy, "PRAGMA table_info(candidates)")]
