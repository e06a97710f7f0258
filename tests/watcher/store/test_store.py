"""The store's verbs on a real SQLite: register, claim, record, copy, supersede; and what is refused."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from evalcore.device_memory import ModelSize
from evalcore.messages import EvalSetSpec, Measurement
from watcher.domain.checkpoint import Fingerprint
from watcher.domain.job import State, Transition
from watcher.errors import NothingFound, StoreRefused, StoreUnavailable
from watcher.store.engine import Store, journal_mode
from watcher.store.migrate import back_up, open_for_reading, open_for_writing
from watcher.store.schema import metadata
from watcher.store.write import attempts, checkpoints, eval_sets, pins, queue, results, runs
from watcher.store.write.attempts import OpenAttempt
from watcher.store.write.checkpoints import NewCheckpoint
from watcher.store.write.claimed import ClaimedCheckpoint
from watcher.store.write.eval_sets import EvalSetRow

NOW = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-01T00:01:00.000000Z"
MEASURED = Measurement(2.0, 7.4, None, 0.1, True, 9, None, 4, 4, 1, "float32", "cpu", 1, 0.1, 0.1, 90.0, 1)
DONE = Transition(State.SUCCEEDED, "succeeded", charge=1, records=True)


@pytest.fixture
def store(tmp_path: Path):
    opened = open_for_writing(os.fspath(tmp_path / "r.db"))
    runs.adopt_run(opened, "gpt", "/ck", NOW)
    yield opened
    opened.close()


def sets(store: Store, *names: str, digest: str = "sha256:1") -> list[EvalSetRow]:
    wanted = [(EvalSetSpec(name, (f"/{name}.npy",)), digest) for name in names]
    return eval_sets.adopt_eval_sets(store, "gpt", wanted, NOW)


def checkpoint(path: str, step: int | None = 10, digest: str = "sha256:a", saved_s: int = 100) -> NewCheckpoint:
    version = Fingerprint(1, saved_s, 500, saved_s * 10**9, saved_s * 10**9)
    source = "payload:step" if step is not None else ""
    return NewCheckpoint(
        *(path, None, digest, "zip", version, "rosellm", 9, step, source, step, None, None, None, None, None),
        model_digest="sha256:model",
    )


def evaluate(store: Store, loss: float = 2.0, content: str = "") -> ClaimedCheckpoint:
    """Claim the next checkpoint and record a result for each of its jobs. content: by default as claimed."""
    claimed = queue.claim_next(store, {"gpt": "newest"}, "launch", NOW)
    assert claimed is not None
    for job in claimed.jobs:
        attempt = OpenAttempt(job.attempt, job.token, "launch", job.facts)
        measured = replace(MEASURED, loss=loss, content_digest=content or f"bytes of {claimed.digest}")
        assert results.record(store, attempt, DONE, measured, NOW) is not None
    return claimed


def read_only(store: Store, content: str) -> ClaimedCheckpoint:
    """Claim the next checkpoint and answer that its bytes are of this content, whose value is known."""
    claimed = queue.claim_next(store, {"gpt": "newest"}, "launch", NOW)
    assert claimed is not None
    for job in claimed.jobs:
        assert content in job.known_contents
        attempt = OpenAttempt(job.attempt, job.token, "launch", job.facts)
        assert results.record_known(store, attempt, DONE, content, NOW) is not None
    return claimed


def rows(store: Store, query: str) -> list[tuple]:
    with closing(sqlite3.connect(store.path or "")) as connection, connection:
        return connection.execute(query).fetchall()


def test_registering_twice_enqueues_once(store: Store) -> None:
    both = sets(store, "val", "test")
    for _ in range(2):
        checkpoints.register(store, "gpt", [checkpoint("a.pt")], both, NOW)
    assert rows(store, "SELECT count(*) FROM jobs") == [(2,)]


def test_newest_is_claimed_first_with_all_its_sets_and_only_once(store: Store) -> None:
    both = sets(store, "val", "test")
    found = [checkpoint("a.pt", 1, "sha256:a", 100), checkpoint("b.pt", 2, "sha256:b", 200)]
    checkpoints.register(store, "gpt", found, both, NOW)
    first = queue.claim_next(store, {"gpt": "newest"}, "one", NOW)
    second = queue.claim_next(store, {"gpt": "newest"}, "two", NOW)
    assert first and second and (first.path, second.path) == ("b.pt", "a.pt")
    assert [job.eval_set for job in first.jobs] == ["val", "test"]
    assert queue.claim_next(store, {"gpt": "newest"}, "three", NOW) is None


def test_the_largest_that_waits_is_found_with_the_sizes_of_its_configuration(store: Store) -> None:
    small = replace(checkpoint("a.pt"), parameters=10, config='{"n_embd": 2, "vocab_size": 5}')
    large = replace(checkpoint("b.pt", digest="sha256:b"), parameters=90, config='{"d_model": "8", "vocab_size": 7.0}')
    assert queue.largest_waiting(store, ["gpt"]) is None
    checkpoints.register(store, "gpt", [small, large], sets(store, "val"), NOW)
    assert queue.largest_waiting(store, ["gpt"]) == ModelSize(90, 7, 8, is_family=True)
    assert queue.largest_waiting(store, ["another"]) is None


def test_a_late_answer_with_an_old_token_changes_nothing(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    claimed = queue.claim_next(store, {"gpt": "newest"}, "one", NOW)
    assert claimed is not None
    job = claimed.jobs[0]
    attempt = OpenAttempt(job.attempt, job.token, "one", job.facts)
    attempts.end_attempts(store, [(attempt, Transition(State.QUEUED, "orphaned", orphan=1), None)], NOW)
    assert results.record(store, attempt, DONE, MEASURED, NOW) is None
    assert rows(store, "SELECT count(*) FROM results") == [(0,)]
    evaluate(store)
    assert rows(store, "SELECT count(*) FROM results") == [(1,)]


def test_equal_content_under_another_name_gets_the_value_once_its_own_bytes_were_read(store: Store) -> None:
    val = sets(store, "val")
    checkpoints.register(store, "gpt", [checkpoint("a.pt"), checkpoint("latest.pt", saved_s=101)], val, NOW)
    assert evaluate(store).path == "latest.pt"
    assert rows(store, "SELECT checkpoint FROM results") == [("latest.pt",)]
    assert read_only(store, "bytes of sha256:a").path == "a.pt"
    assert rows(store, "SELECT checkpoint, loss, content_digest FROM results ORDER BY checkpoint") == [
        ("a.pt", 2.0, "bytes of sha256:a"),
        ("latest.pt", 2.0, "bytes of sha256:a"),
    ]
    assert queue.next_due(store, ["gpt"]) is None


def test_equal_content_waits_while_it_is_evaluated_under_another_name(store: Store) -> None:
    found = [checkpoint("a.pt"), checkpoint("b.pt", saved_s=101)]
    checkpoints.register(store, "gpt", found, sets(store, "val"), NOW)
    assert queue.claim_next(store, {"gpt": "newest"}, "one", NOW) is not None
    assert queue.claim_next(store, {"gpt": "newest"}, "two", NOW) is None


def test_another_file_with_the_same_step_is_no_older_version_and_the_curve_shows_the_one_observed_last(
    store: Store,
) -> None:
    val = sets(store, "val")
    checkpoints.register(store, "gpt", [checkpoint("a.pt", 10, "sha256:old", 200)], val, NOW)
    evaluate(store, 3.0)
    checkpoints.register(store, "gpt", [checkpoint("resumed.pt", 10, "sha256:new", 100)], val, LATER)
    evaluate(store, 2.5)
    assert rows(store, "SELECT loss, superseded FROM results ORDER BY id") == [(3.0, 0), (2.5, 0)]
    assert rows(store, "SELECT step, loss FROM curve") == [(10, 2.5)]


def test_an_overwritten_path_cancels_what_waited_for_its_old_content(store: Store) -> None:
    val = sets(store, "val")
    checkpoints.register(store, "gpt", [checkpoint("ckpt.pt", 10, "sha256:old", 100)], val, NOW)
    checkpoints.register(store, "gpt", [checkpoint("ckpt.pt", 20, "sha256:new", 200)], val, NOW)
    assert rows(store, "SELECT state, kind FROM jobs ORDER BY id") == [("cancelled", "superseded"), ("queued", None)]


def test_a_pinned_version_is_still_evaluated_after_its_path_was_overwritten(store: Store) -> None:
    val = sets(store, "val")
    (old,) = checkpoints.register(store, "gpt", [checkpoint("ckpt.pt", 10, "sha256:old", 100)], val, NOW)
    pins.keep_pinned(store, old.id, "/spool/old.pt")
    checkpoints.register(store, "gpt", [checkpoint("ckpt.pt", 20, "sha256:new", 200)], val, NOW)
    evaluate(store)
    assert evaluate(store).spool_path == "/spool/old.pt"
    assert rows(store, "SELECT step FROM curve ORDER BY step") == [(10,), (20,)]


def test_a_changed_set_queues_only_its_own_cells_and_keeps_the_old_rows_out_of_the_curve(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val", "test"), NOW)
    evaluate(store)
    wanted = [(EvalSetSpec("val", ("/val.npy",)), "sha256:2"), (EvalSetSpec("test", ("/test.npy",)), "sha256:1")]
    eval_sets.adopt_eval_sets(store, "gpt", wanted, NOW)
    claimed = queue.claim_next(store, {"gpt": "newest"}, "again", NOW)
    assert claimed is not None and [job.eval_set for job in claimed.jobs] == ["val"]
    assert rows(store, "SELECT count(*) FROM results") == [(2,)]
    assert rows(store, "SELECT eval_set FROM curve") == [("test",)]


def fail(store: Store) -> None:
    """Claim the next checkpoint and let each of its jobs end as `data`."""
    claimed = queue.claim_next(store, {"gpt": "newest"}, "launch", NOW)
    assert claimed is not None
    ended = [OpenAttempt(job.attempt, job.token, "launch", job.facts) for job in claimed.jobs]
    move = Transition(State.FAILED, "data", charge=1, kind="data", reason="no ranks", hint="say bytes")
    attempts.end_attempts(store, [(attempt, move, None) for attempt in ended], NOW)


@pytest.mark.parametrize("whole", [True, False])
def test_what_failed_on_an_older_definition_of_a_set_is_no_failure_of_today(store: Store, whole: bool) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    fail(store)
    assert rows(store, "SELECT kind FROM failures") == [("data",)]
    eval_sets.adopt_eval_sets(store, "gpt", [(EvalSetSpec("val", ("/val.npy",)), "sha256:2")], NOW, whole=whole)
    assert rows(store, "SELECT kind FROM failures") == []
    sets(store, "val")
    if whole:  # asked for again, it is tried again, with all of its attempts
        assert rows(store, "SELECT state, charged FROM jobs ORDER BY id LIMIT 1") == [("queued", 0)]


def test_what_failed_on_a_set_that_is_not_asked_for_now_is_no_failure_of_today(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    fail(store)
    sets(store, "test")
    assert rows(store, "SELECT kind FROM failures") == []


def test_a_set_that_is_no_longer_asked_for_keeps_its_curve_and_gets_no_new_jobs(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val", "test"), NOW)
    evaluate(store)
    only = sets(store, "test")
    checkpoints.register(store, "gpt", [checkpoint("b.pt", 20, "sha256:b", 200)], only, NOW)
    claimed = queue.claim_next(store, {"gpt": "newest"}, "again", NOW)
    assert claimed is not None and [job.eval_set for job in claimed.jobs] == ["test"]
    assert rows(store, "SELECT eval_set, step FROM curve ORDER BY eval_set") == [("test", 10), ("val", 10)]


@pytest.mark.parametrize("is_watched", [False, True])
def test_one_evaluation_on_another_definition_takes_no_curve_away_before_it_has_a_result(
    store: Store, is_watched: bool
) -> None:
    """A mistyped tokenizer, or a quick estimate with --max-tokens, must not empty the plot."""
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    evaluate(store)
    if is_watched:
        runs.scanned(store, "gpt", NOW, Counter())
    other = [(EvalSetSpec("val", ("/val.npy",), max_tokens=100), "sha256:2")]
    rows_of_set = eval_sets.adopt_eval_sets(store, "gpt", other, NOW, whole=False)
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], rows_of_set, NOW)
    fail(store)
    ids = [row.id for row in rows_of_set]
    assert eval_sets.make_measured_current(store, "gpt", ids) == []
    assert rows(store, "SELECT loss FROM curve") == [(2.0,)]
    checkpoints.register(store, "gpt", [checkpoint("b.pt", 20, "sha256:b", 200)], rows_of_set, NOW)
    evaluate(store, 1.5)
    assert eval_sets.make_measured_current(store, "gpt", ids) == (["val"] if is_watched else [])
    assert rows(store, "SELECT loss FROM curve") == [(2.0,) if is_watched else (1.5,)]
    assert rows(store, "SELECT count(*) FROM results") == [(2,)]


def test_one_evaluation_on_request_asks_nothing_of_the_other_checkpoints(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    extra = [(EvalSetSpec("extra", ("/extra.npy",)), "sha256:1")]
    eval_sets.adopt_eval_sets(store, "gpt", extra, NOW, whole=False)
    assert rows(store, "SELECT e.name, j.state FROM jobs j JOIN eval_sets e ON e.id = j.eval_set_id") == [
        ("val", "queued")
    ]


def test_a_loss_that_is_not_finite_is_a_row_without_a_number(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    claimed = queue.claim_next(store, {"gpt": "newest"}, "one", NOW)
    assert claimed is not None
    job = claimed.jobs[0]
    diverged = replace(MEASURED, loss=float("nan"), ppl=None, finite=False, note="the loss is not a number")
    results.record(store, OpenAttempt(job.attempt, job.token, "one", job.facts), DONE, diverged, NOW)
    assert rows(store, "SELECT loss, ppl, finite FROM results") == [(None, None, 0)]
    assert rows(store, "SELECT state FROM jobs") == [("succeeded",)]


def test_illegal_states_are_refused_by_the_database_itself(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    for change in ("state = 'done'", "state = 'running'", "state = 'succeeded'", "state = 'failed', finished_at = 'x'"):
        with closing(sqlite3.connect(store.path or "")) as connection, pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"UPDATE jobs SET {change}")


def test_the_migrated_schema_is_the_declared_one(store: Store) -> None:
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("what", ["text", "foreign", "newer", "flipped", "truncated"])
def test_a_database_that_is_not_ours_or_damaged_is_refused_untouched(tmp_path: Path, what: str) -> None:
    path = tmp_path / "r.db"
    if what == "text":
        path.write_text("not a database at all " * 20)
    elif what == "foreign":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE notes (text)")
    else:
        open_for_writing(os.fspath(path)).close()
        if what == "newer":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
        elif what == "flipped":
            data = bytearray(path.read_bytes())
            data[4096 * 3 : 4096 * 3 + 200] = b"\xff" * 200
            path.write_bytes(data)
        else:
            path.write_bytes(path.read_bytes()[: 4096 * 5])
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StoreRefused) as refused:
        open_for_writing(os.fspath(path))
    assert refused.value.exit_code == 7 and refused.value.hint
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_reading_a_database_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NothingFound, match=r"nowhere\.db"):
        open_for_reading(os.fspath(tmp_path / "nowhere.db"))


def test_a_backup_is_a_whole_database_of_its_own(store: Store) -> None:
    checkpoints.register(store, "gpt", [checkpoint("a.pt")], sets(store, "val"), NOW)
    assert store.path is not None
    copy = back_up(store.path)
    with closing(sqlite3.connect(copy)) as connection, connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_a_live_database_that_was_deleted_is_noticed_before_the_next_write(store: Store) -> None:
    assert store.path is not None
    store.path.unlink()
    with pytest.raises(StoreUnavailable, match="gone"):
        runs.scanned(store, "gpt", NOW, {})  # type: ignore[arg-type]


def test_a_reader_sees_the_file_that_lies_there_now_and_not_the_one_it_opened(store: Store) -> None:
    def names(reader: Store) -> list[str]:
        with reader.read() as tx:
            return list(tx.exec_driver_sql("SELECT name FROM runs").scalars())

    assert store.path is not None
    copy = back_up(store.path)
    with closing(sqlite3.connect(copy)) as other, other:
        other.execute("UPDATE runs SET name = 'of another day'")
    other.close()
    reader = open_for_reading(str(store.path))
    before = names(reader)
    assert before and before != ["of another day"]
    copy.rename(store.path)
    assert names(reader) == ["of another day"]
    store.path.unlink()
    with pytest.raises(StoreUnavailable):
        names(reader)
    reader.close()


def test_wal_is_used_only_where_sqlite_is_fixed_and_the_file_system_local(tmp_path: Path) -> None:
    assert journal_mode(tmp_path, (3, 40, 1)) == "PERSIST"
    assert journal_mode(tmp_path, (3, 51, 3)) == "WAL"
