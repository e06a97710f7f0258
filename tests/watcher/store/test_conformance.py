"""What every engine under the store must do alike. Runs on SQLite here, on PostgreSQL in tests/engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from evalcore.messages import EvalSetSpec, Measurement, Outcome
from evalcore.sampling.spec import SampleSpec
from evalcore.tasks.item_scores import to_text
from evalcore.tasks.spec import task_spec
from tests.support.task_rows import item_scores
from watcher.domain.checkpoint import Fingerprint
from watcher.domain.job import AttemptEnd, Cause, RetryPolicy, State, after_attempt
from watcher.domain.timestamps import iso
from watcher.store import schema
from watcher.store.engine import Store
from watcher.store.migrate import open_for_reading, open_for_writing
from watcher.store.read import queue as queues
from watcher.store.read import results as reads
from watcher.store.read import tasks
from watcher.store.read.dashboard import Pages
from watcher.store.read.listing import LISTINGS, ListingQuery, rows_of
from watcher.store.read.panels import Panels
from watcher.store.read.samples import SamplePages, WantedTexts, texts
from watcher.store.read.suites import suite_scores
from watcher.store.read.windows import KeptWindows
from watcher.store.write import attempts, checkpoints, eval_sets, launches, queue, rejections, results, runs
from watcher.store.write.attempts import OpenAttempt
from watcher.store.write.checkpoints import NewCheckpoint
from watcher.store.write.claimed import ClaimedCheckpoint, ClaimedJob

T0 = 1_760_000_000.0
MEASURED = Measurement(
    loss=2.5, ppl=12.18, bits_per_byte=1.1, loss_stderr=0.01, finite=True, tokens=99, bytes=400, seq_len=16, stride=16,
    batch_size=4, dtype="float32", device="cpu", world_size=2, load_seconds=0.1, eval_seconds=0.2,
    tokens_per_second=495.0, peak_memory_bytes=1 << 33, evalcore_version="1", torch_version="2",
    window_nats=(20.0, 30.0), window_targets=(50, 49), content_digest="sha256:content",
)  # fmt: skip


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return str(tmp_path / "ckptwatch.db")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_for_writing(store_url)
    yield opened
    opened.close()


def found(step: int, digest: str = "", path: str = "") -> NewCheckpoint:
    stamp = int((T0 + step) * 1e9)
    return NewCheckpoint(
        path=path or f"step_{step}.pt", raw_path=None, digest=digest or f"sha256:{step}", format="zip",
        fingerprint=Fingerprint(1, step, 4_000_000_000, stamp, stamp), family="rosellm", parameters=10**12, step=step,
        step_source="payload:step", payload_step=step, name_step=step, tokens_seen=None, logged_val_loss=None,
        config="{}", note=None, model_digest="sha256:model",
    )  # fmt: skip


def spec_of(name: str) -> EvalSetSpec:
    return EvalSetSpec(name=name, paths=(f"/data/{name}",), data_digest=f"sha256:{name}")


def prepare(store: Store, steps: int = 3, sets: tuple[str, ...] = ("val",), run: str = "gpt") -> None:
    """A run with these sets and a checkpoint for each step from 1."""
    runs.adopt_run(store, run, "/out", iso(T0))
    specs = [spec_of(name) for name in sets]
    rows = eval_sets.adopt_eval_sets(store, run, [(spec, spec.digest()) for spec in specs], iso(T0))
    checkpoints.register(store, run, [found(step) for step in range(1, steps + 1)], rows, iso(T0))


def claim(
    store: Store, launch: str = "launch-1", order: str = "oldest", home: str = "here"
) -> ClaimedCheckpoint | None:
    row = {
        "id": launch,
        "owner": "host:boot:1",
        "instance_id": home,
        "executor": "local",
        "folder": "/f",
        "device": "cpu",
    }
    with store.read() as tx:
        there = tx.execute(text("SELECT 1 FROM launches WHERE id = :id"), {"id": launch}).first()
    opens = None if there else {**row, "world_size": 1, "started_at": iso(T0)}
    return queue.claim_next(store, {"gpt": order}, launch, iso(T0 + 100), opens=opens)


def succeed(store: Store, claimed: ClaimedCheckpoint, loss: float = 2.5) -> list[int | None]:
    return [answer(store, claimed, job, loss) for job in claimed.jobs]


def know(store: Store, claimed: ClaimedCheckpoint) -> list[int | None]:
    """The worker has read the bytes, and they are those of a content whose value is known."""
    moved = []
    for job in claimed.jobs:
        end = AttemptEnd(Cause.ENDED, True, Outcome(job.attempt, job.token, "known", content_digest="sha256:content"))
        attempt = OpenAttempt(job.attempt, job.token, "launch-1", job.facts)
        move = after_attempt(job.facts, end, RetryPolicy(), 0.5)
        moved.append(results.record_known(store, attempt, move, "sha256:content", iso(T0 + 300), run=claimed.run))
    return moved


def answer(
    store: Store, claimed: ClaimedCheckpoint, job: ClaimedJob, loss: float = 2.5, like: Measurement = MEASURED
) -> int | None:
    attempt = OpenAttempt(job.attempt, job.token, "launch-1", job.facts)
    measured = replace(like, loss=loss)
    end = AttemptEnd(Cause.ENDED, True, Outcome(job.attempt, job.token, "succeeded", measurement=measured))
    move = after_attempt(job.facts, end, RetryPolicy(), 0.5)
    return results.record(store, attempt, move, measured, iso(T0 + 200), run=claimed.run)


def test_opening_twice_changes_nothing_and_a_reader_cannot_write(store, store_url):
    prepare(store)
    again = open_for_writing(store_url)
    assert queues.count_by_state(again) == {"queued": 3}
    again.close()
    reader = open_for_reading(store_url)
    with pytest.raises(Exception, match=r"read.?only"), reader.engine.begin() as tx:
        tx.execute(text("DELETE FROM jobs"))
    reader.close()
    assert queues.count_by_state(store) == {"queued": 3}


def test_registering_again_changes_nothing(store):
    prepare(store)
    prepare(store)
    assert queues.count_by_state(store) == {"queued": 3}
    assert checkpoints.count_checkpoints(store, "gpt") == 3


@pytest.mark.parametrize(("order", "first"), [("newest", 3), ("oldest", 1)])
def test_a_claim_takes_all_jobs_of_the_next_checkpoint_and_opens_the_launch_with_it(store, order, first):
    prepare(store, sets=("val", "code"))
    claimed = claim(store, order=order)
    assert claimed is not None
    assert claimed.step == first
    assert sorted(job.eval_set for job in claimed.jobs) == ["code", "val"]
    assert [row.id for row in launches.open_launches(store, "here")] == ["launch-1"]
    assert {held.attempt.id for held in attempts.open_held(store, "here")} == {job.attempt for job in claimed.jobs}


def test_a_result_is_recorded_once_and_only_with_the_token(store):
    prepare(store)
    claimed = claim(store)
    assert claimed is not None
    stale = replace(claimed, jobs=(replace(claimed.jobs[0], token="0" * 32),))
    assert succeed(store, stale) == [None]
    assert succeed(store, claimed) != [None]
    assert succeed(store, claimed) == [None]
    row = reads.result_rows(store)[0]
    assert (row["step"], row["loss"], row["peak_memory_bytes"]) == (1, 2.5, 1 << 33)
    kept = KeptWindows(store).get(row["id"])
    assert kept is not None
    assert list(kept[0]) == [20.0, 30.0]


def test_equal_content_under_another_path_is_read_before_its_value_is_copied(store):
    prepare(store, steps=1)
    sets = [eval_sets.EvalSetRow(1, "val", spec_of("val").digest())]
    checkpoints.register(store, "gpt", [found(2, digest="sha256:1", path="copy.pt")], sets, iso(T0))
    claimed = claim(store)
    assert claimed is not None
    assert claim(store) is None
    succeed(store, claimed, loss=3.0)
    twin = claim(store)
    assert twin is not None and [job.known_contents for job in twin.jobs] == [("sha256:content",)]
    assert know(store, twin) != [None]
    assert {row["checkpoint"]: row["loss"] for row in reads.result_rows(store)} == {
        "step_1.pt": 3.0,
        "copy.pt": 3.0,
    }
    assert queues.count_by_state(store) == {"succeeded": 2}


SCORED = replace(
    MEASURED, ppl=None, stride=None, window_nats=(), window_targets=(), task="piqa", items=4, accuracy=0.75,
    accuracy_norm=0.5, accuracy_stderr=0.25, accuracy_norm_stderr=0.28, random_baseline=0.5, ppl_item=45.5,
    item_scores=to_text(item_scores([1, 1, 1, 0], [4.0, 5.0, 6.0, 7.0])),
)  # fmt: skip


def test_a_task_is_one_row_with_its_items_behind_it_and_a_copy_has_them_too(store):
    prepare(store, steps=1)
    sets = [eval_sets.EvalSetRow(1, "val", spec_of("val").digest())]
    checkpoints.register(store, "gpt", [found(2, digest="sha256:1", path="copy.pt")], sets, iso(T0))
    claimed = claim(store)
    assert claimed is not None
    answer(store, claimed, claimed.jobs[0], like=SCORED)
    twin = claim(store)
    assert twin is not None
    know(store, twin)
    kept, windows = tasks.KeptItems(store), KeptWindows(store)
    for row in tasks.with_scores(store, reads.result_rows(store)):
        facts = (row["task"], row["items"], row["accuracy"], row["accuracy_norm"], row["random_baseline"])
        assert facts == ("piqa", 4, 0.75, 0.5, 0.5) and row["stride"] is None
        assert (row["accuracy_norm_stderr"], row["ppl_item"]) == (0.28, 45.5)
        # gold nats 4, 5, 6, 7 over 8 bytes: sample deviation 1.291, over sqrt(4)
        assert row["bits_per_byte_stderr"] == pytest.approx(1.2909944 / 2 / 8 / 0.6931472)
        assert list(kept.get(row["id"]).correct) == [1, 1, 1, 0]
        assert list(windows.get(row["id"])[0]) == [4.0, 5.0, 6.0, 7.0]
    with store.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM task_items")).scalar() == 2
        assert tx.execute(text("SELECT count(*) FROM windows")).scalar() == 0
        norm = "SELECT value, stderr FROM scores WHERE metric = 'accuracy_norm'"
        assert {tuple(row) for row in tx.execute(text(norm))} == {(0.5, 0.28)}


def test_items_that_arrive_damaged_leave_the_row_and_its_note(store):
    prepare(store, steps=1)
    claimed = claim(store)
    assert claimed is not None
    number = answer(store, claimed, claimed.jobs[0], like=replace(SCORED, item_scores="bm90IHNjb3Jlcw=="))
    (row,) = reads.result_rows(store)
    assert row["accuracy"] == 0.75 and "arrived damaged" in row["note"]
    assert tasks.KeptItems(store).get(number) is None


def test_a_suite_has_the_members_that_it_has_now(store):
    runs.adopt_run(store, "gpt", "/out", iso(T0))

    def adopt(*names: str) -> None:
        specs = [
            EvalSetSpec(f"core/{name}", (f"/{name}",), data_digest=name, task=task_spec("piqa"), suite="core")
            for name in names
        ]
        rows = eval_sets.adopt_eval_sets(store, "gpt", [(spec, spec.digest()) for spec in specs], iso(T0))
        checkpoints.register(store, "gpt", [found(1)], rows, iso(T0))

    adopt("a", "b")
    claimed = claim(store)
    assert claimed is not None and len(claimed.jobs) == 2
    first = next(job for job in claimed.jobs if job.eval_set == "core/a")
    answer(store, claimed, first, like=SCORED)
    assert [(score.value, score.missing) for score in suite_scores(store)] == [(None, ("b",))]
    adopt("a")  # the bundle has one task now
    assert [(score.value, score.missing) for score in suite_scores(store)] == [(0.5, ())]
    with store.read() as tx:
        assert tx.execute(text("SELECT value, members, expected FROM suites")).all() == [(0.5, 1, 1)]


def test_a_job_that_is_released_waits_for_its_time(store):
    prepare(store, steps=1)
    claimed = claim(store)
    assert claimed is not None
    job = claimed.jobs[0]
    attempt = OpenAttempt(job.attempt, job.token, "launch-1", job.facts)
    move = after_attempt(job.facts, AttemptEnd(Cause.ENDED, True), RetryPolicy(), 0.5)
    later = iso(T0 + 1000)
    attempts.end_attempts(store, [(attempt, move, later)], iso(T0))
    assert claim(store) is None
    assert queue.next_due(store, ["gpt"]) == later
    assert queue.next_due(store, ["another"]) is None


def test_the_database_itself_refuses_illegal_states(store):
    prepare(store)
    for wrong in ("state = 'running'", "state = 'failed'", "state = 'odd'", "finished_at = 'x'"):
        with pytest.raises(IntegrityError), store.engine.begin() as tx:
            tx.execute(text(f"UPDATE jobs SET {wrong} WHERE id = 1"))
    with pytest.raises(IntegrityError), store.engine.begin() as tx:
        tx.execute(text("INSERT INTO jobs (checkpoint_id, eval_set_id, model_digest, run, state, order_key,"
                        " enqueued_at) VALUES (1, 1, 'sha256:model', 'gpt', 'queued', 1, 'now')"))  # fmt: skip


def test_the_views_show_the_newest_version_of_a_step_the_best_and_the_failures(store):
    prepare(store, steps=3)
    for loss in (3.0, 2.0, 2.4):
        claimed = claim(store)
        assert claimed is not None
        succeed(store, claimed, loss)
    rejections.reject(store, "gpt", "broken.pt", "corrupt", "half a file", True, None, iso(T0))
    rejections.reject(store, "gpt", "broken.pt", "corrupt", "still half a file", True, None, iso(T0))
    with store.read() as tx:
        curve = tx.execute(text("SELECT step, loss FROM curve WHERE run = 'gpt' ORDER BY step")).all()
        best = tx.execute(text("SELECT step FROM best")).scalars().all()
        latest = tx.execute(text("SELECT step FROM latest")).scalars().all()
        failed = tx.execute(text("SELECT checkpoint, reason FROM failures")).all()
    assert [tuple(row) for row in curve] == [(1, 3.0), (2, 2.0), (3, 2.4)]
    assert (best, latest) == ([2], [3])
    assert [tuple(row) for row in failed] == [("broken.pt", "still half a file")]


def test_every_question_of_the_dashboard_is_understood(store):
    prepare(store)
    claimed = claim(store)
    assert claimed is not None
    succeed(store, claimed)
    pages = Pages(store)
    assert pages.facts()["schema"] == schema.REVISION
    assert [row["name"] for row in pages.runs()] == ["gpt"]
    panels = Panels(store)
    assert [list(panels.points(cell, ("step", "loss"))["loss"]) for cell in panels.cells()] == [[2.5]]
    assert [cell["state"] for cell in pages.cells_of([claimed.id])[claimed.id]] == [State.SUCCEEDED]
    assert pages.checkpoint(claimed.id)["results"][0]["step"] == claimed.step  # type: ignore[index]
    for question in (
        pages.pulse,
        pages.run_names,
        pages.set_names,
        pages.best_accuracy,
        pages.suites,
        pages.counts,
        pages.running,
        pages.exports,
    ):
        question()
    assert len(pages.newest_results(5)) == 1
    for key, listing in LISTINGS.items():
        rows, total = rows_of(store, key, ListingQuery())
        assert len(rows) == total, listing


def test_readers_questions_are_understood(store):
    prepare(store)
    claimed = claim(store)
    assert claimed is not None
    assert queues.running_jobs(store)[0]["checkpoint"] == "step_1.pt"
    assert reads.known_names(store) == (["gpt"], ["val"])
    assert queues.failure_count(store) == 0
    assert len(reads.prunable_facts(store)) == 3
    assert queues.job_launch(store, claimed.jobs[0].id)["folder"] == "/f"  # type: ignore[index]


def test_the_texts_of_samples_are_listed_the_newest_step_first(store):
    prepare(store, steps=2)
    spec = EvalSetSpec("stories", (), tokenizer="bytes", sample=SampleSpec(("Once",), 16))
    eval_sets.adopt_eval_sets(store, "gpt", [(spec, spec.digest())], iso(T0))
    same = {"run": "gpt", "name": "stories", "digest": spec.digest(), "model_digest": "sha256:model", "position": 0}
    same |= {"prompt": "Once", "mode": "greedy", "max_new_tokens": 16, "tokens": 1, "ended": "length", "at": iso(T0)}
    with store.write() as tx:
        for number, step in tx.execute(text("SELECT id, step FROM checkpoints ORDER BY step")).all():
            tx.execute(schema.samples.insert().values(checkpoint_id=number, text=f"at {step}", **same))
    pages = SamplePages(store)
    assert pages.exist() and [row["name"] for row in pages.sections()] == ["stories"]
    assert [row["step"] for row in pages.checkpoints("gpt", "stories")] == [2, 1]
    found_texts = texts(store, WantedTexts("gpt", "stories", (1, None), "once", limit=1))
    assert [row["text"] for row in found_texts] == ["at 2"]
    assert pages.texts("stories", [found_texts[0]["checkpoint_id"]]) == found_texts and pages.texts("stories", []) == []
    assert pages.of_checkpoint(found_texts[0]["checkpoint_id"]) == [{"name": "stories", "texts": 1}]
    assert [row["failed"] for row in Panels(store).runs()] == [0]
