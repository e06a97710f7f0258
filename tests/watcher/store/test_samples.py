"""Stored texts: one set for each version and section, replaced as a whole, and shown for the versions that stand."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update

from evalcore.messages import EvalSetSpec, Outcome, SampleText, to_json
from evalcore.sampling.spec import SampleSpec
from tests.support.database import Database
from tests.support.sample_rows import sample_set, sample_texts
from watcher.domain.job import SAMPLE_PRIORITY, AttemptEnd, Cause, JobFacts, RetryPolicy, State, after_attempt
from watcher.store import schema
from watcher.store.read import queue as questions
from watcher.store.read.dashboard import Pages
from watcher.store.read.listing import ListingQuery, rows_of
from watcher.store.read.panels import Panels
from watcher.store.read.samples import SamplePages, WantedTexts, texts
from watcher.store.write import attempts, outbox, queue, requests, samples
from watcher.store.write.attempts import OpenAttempt
from watcher.store.write.eval_sets import adopt_eval_sets

NOW = "2026-11-28T12:00:00.000Z"
SPEC = EvalSetSpec("stories", (), tokenizer="bytes", sample=SampleSpec(("a", "b"), 16, 0.5, 3, 0.9, 7))
SETS = [(EvalSetSpec("val", ("/v.npy",)), "sha256:11"), (SPEC, SPEC.digest())]


@pytest.fixture
def made(tmp_path):
    database = Database(tmp_path / "c.db")
    database.run()
    for step in (100, 200):
        database.checkpoint(step, content_digest="sha256:c")
    adopt_eval_sets(database.store, "gpt", SETS, NOW)
    yield database
    database.close()


def claim(made, launch="l", **more):
    row = {"id": launch, "owner": "o", "executor": "local", "folder": "f", "device": "cpu", "world_size": 1}
    return queue.claim_next(made.store, {"gpt": "oldest"}, launch, NOW, None, {**row, "started_at": NOW}, **more)


def fail(made, claimed, kind="data"):
    for job in claimed.jobs:
        attempt = OpenAttempt(job.attempt, job.token, "l", job.facts)
        end = AttemptEnd(Cause.ENDED, True, Outcome(job.attempt, job.token, "failed", kind, "no tokenizer"))
        move = after_attempt(job.facts, end, RetryPolicy(), 0.5)
        attempts.end_attempts(made.store, [(attempt, move, None)], NOW)


def test_samples_are_claimed_when_every_loss_is_and_only_by_who_takes_them(made):
    first, second = claim(made, samples=True), claim(made, "m", samples=True)
    assert [[job.eval_set for job in each.jobs] for each in (first, second)] == [["val"], ["val"]]
    assert claim(made, "n") is None
    third = claim(made, "n", samples=True)
    assert [job.eval_set for job in third.jobs] == ["stories"] and third.step == 100
    with made.store.read() as tx:
        assert set(tx.execute(select(schema.jobs.c.priority)).scalars()) == {0, SAMPLE_PRIORITY}


def test_a_loss_does_not_wait_for_the_samples_of_the_same_content(made):
    for launch in ("l", "m"):
        claim(made, launch)
    assert [job.eval_set for job in claim(made, "n", samples=True).jobs] == ["stories"]
    made.checkpoint(300, path="copy.pt", digest="sha256:gpt-100")
    adopt_eval_sets(made.store, "gpt", SETS, NOW)
    with made.store.write() as tx:  # the loss of the original is done; its samples run
        done = {"state": "succeeded", "token": None, "finished_at": NOW}
        tx.execute(
            update(schema.jobs).where(schema.jobs.c.priority == 0, schema.jobs.c.token.is_not(None)).values(done)
        )
    copy = claim(made, "o")
    assert copy.path == "copy.pt" and [job.eval_set for job in copy.jobs] == ["val"]


def test_a_sample_that_a_user_bumps_is_claimed_with_the_losses(made):
    with made.store.read() as tx:
        job = tx.execute(select(schema.jobs.c.id).where(schema.jobs.c.priority < 0)).scalars().first()
    assert requests.change(made.store, "bump", [job], NOW) == 1
    assert job in [each.id for each in claim(made).jobs]


def test_recording_twice_leaves_one_row_for_each_prompt_and_a_void_token_leaves_none(made):
    for launch in ("l", "m"):
        claim(made, launch)
    claimed = claim(made, "n", samples=True)
    (job,) = claimed.jobs
    attempt = OpenAttempt(job.attempt, job.token, "n", JobFacts(job.id, 0, 0))
    made_texts = [SampleText("a", "x\0y", (1, 2), "length"), SampleText("b", "", (), "end_of_text", "a note")]
    move = after_attempt(
        job.facts,
        AttemptEnd(Cause.ENDED, True, Outcome(job.attempt, job.token, "succeeded", samples=tuple(made_texts))),
        RetryPolicy(),
        0.5,
    )
    assert samples.record_samples(made.store, attempt, move, made_texts, "sha256:c", NOW) == 2
    assert samples.record_samples(made.store, attempt, move, made_texts, "sha256:c", NOW) is None
    rows = texts(made.store, WantedTexts("gpt"))
    assert [(row["prompt"], row["text"], row["tokens"], row["ended"], row["note"]) for row in rows] == [
        ("a", "x\u2400y", 2, "length", None),
        ("b", "", 0, "end_of_text", "a note"),
    ]
    settings = ("mode", "temperature", "top_k", "top_p", "seed", "max_new_tokens", "tokenizer")
    assert [rows[0][name] for name in settings] == ["sampled", 0.5, 3, 0.9, 7, 16, "bytes"]
    with made.store.write() as tx:  # measured again on demand, say
        again = {"state": State.RUNNING, "token": job.token, "finished_at": None}
        tx.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(again))
    assert samples.record_samples(made.store, attempt, move, made_texts[:1], "sha256:c", NOW) == 1
    assert [row["prompt"] for row in texts(made.store, WantedTexts("gpt"))] == ["a"]


def test_a_failed_sample_is_no_failure_of_the_run_and_takes_no_loss_away(made):
    made.result(100, 2.5, content_digest="sha256:c", model_digest="")
    for launch in ("l", "m"):
        claim(made, launch)
    fail(made, claim(made, "n", samples=True), kind="corrupt")
    assert "failed" not in questions.count_by_state(made.store)
    assert questions.count_by_state(made.store, samples=True)["failed"] == 1
    assert questions.failure_count(made.store) == 0 and questions.failures(made.store, ["gpt"]) == []
    listed = rows_of(made.store, "runs", ListingQuery())[0]
    assert [row["failed"] for row in (*Pages(made.store).runs(), *Panels(made.store).runs(), *listed)] == [0, 0, 0]
    with made.store.write() as tx:
        outbox.adopt(tx, ["alerts"], NOW, ["alerts"])
        assert tx.execute(text("SELECT count(*) FROM exports WHERE kind = 'failure'")).scalar() == 0
        assert tx.execute(select(schema.results.c.superseded)).scalars().all() == [0]


def test_what_waits_for_a_sample_alone_is_neither_old_nor_unfinished(made):
    for launch in ("l", "m"):
        claim(made, launch)
    with made.store.write() as tx:
        tx.execute(
            update(schema.jobs)
            .where(schema.jobs.c.priority == 0)
            .values(state="failed", kind="oom", token=None, finished_at=NOW)
        )
    assert questions.oldest_waiting_at(made.store) is None
    assert questions.waiting_among(made.store, [1, 2]) == 0
    assert requests.measure_again(made.store, "gpt") == 2  # the losses alone


def test_texts_are_shown_for_versions_that_stand_and_the_prompts_of_now(tmp_path):
    database = Database(tmp_path / "c.db")
    database.run()
    sample_set(database, ("a",))
    kinds = {"ckpt.pt": {}, "again.pt": {}, "undone.pt": {"undone": 1, "superseded": 1}}
    for place, (path, more) in enumerate(kinds.items()):
        number = database.checkpoint(100 * (place + 1), path=path, content_digest="sha256:c", **more)
        sample_texts(database, number, {"a": path}, content_digest="sha256:c")
    later = database.checkpoint(200, path="again.pt", digest="sha256:later", content_digest="sha256:d")
    sample_texts(database, later, {"a": "again.pt, saved later"}, content_digest="sha256:d")
    other = database.checkpoint(300, path="ckpt.pt", digest="sha256:other")  # overwritten by another step: both stand
    sample_texts(database, other, {"a": "ckpt.pt, step 300"})
    for digest in ("sha256:n1", "sha256:n2"):  # a name without a step, overwritten: only the later version stands
        number = database.checkpoint(None, path="final.pt", digest=digest, content_digest=digest)
        sample_texts(database, number, {"a": digest}, content_digest=digest)
    found = [row["text"] for row in texts(database.store, WantedTexts())]
    assert found == ["ckpt.pt", "again.pt, saved later", "ckpt.pt, step 300", "sha256:n2"]
    pages = SamplePages(database.store)
    listed = [row["checkpoint"] for row in pages.checkpoints("gpt", "stories")]
    assert listed == ["ckpt.pt", "again.pt", "ckpt.pt", "final.pt"]
    of_two = [row["text"] for row in pages.texts("stories", [later, other])]
    assert of_two == ["again.pt, saved later", "ckpt.pt, step 300"]
    newest = texts(database.store, WantedTexts(limit=1, steps=(None, 250), prompt="A"))
    assert [row["text"] for row in newest] == ["again.pt, saved later"]
    with database.store.write() as tx:  # its bytes changed: other texts
        tx.execute(update(schema.checkpoints).where(schema.checkpoints.c.id == later).values(content_digest="sha256:e"))
    assert len(texts(database.store, WantedTexts())) == 3
    sample_set(database, ("another",), digest="sha256:s2")
    assert texts(database.store, WantedTexts()) == []
    assert to_json(SPEC)
    database.close()
