"""What the end of an attempt makes of a job, decided from values alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalcore.messages import DATA_CHANGED, DETERMINISTIC_KINDS, FAILURE_KINDS, Measurement, Outcome
from watcher.domain.job import (
    BACKOFF_MAX_S,
    ORPHANED_MAX,
    AttemptEnd,
    Cause,
    JobFacts,
    RetryPolicy,
    State,
    after_attempt,
    backoff_s,
)

POLICY = RetryPolicy(attempts=3, first_backoff_s=10.0)
FRESH = JobFacts(id=1, charged=0, orphaned=0)
MEASURED = Measurement(2.0, 7.4, None, None, True, 9, None, 4, 4, 1, "float32", "cpu", 1, 0.1, 0.1, 90.0, 1)


def failed(kind: str) -> AttemptEnd:
    return AttemptEnd(Cause.ENDED, True, Outcome(1, "t", "failed", kind=kind, reason="why"))


def test_an_answer_on_data_that_changed_is_no_answer_and_charges_nobody_though_not_for_ever():
    end = AttemptEnd(Cause.ENDED, True, Outcome(1, "t", "superseded", DATA_CHANGED, "the data files changed"))
    move = after_attempt(JobFacts(1, 0, 0), end, RetryPolicy(), 0.5)
    assert (move.state, move.charge, move.orphan, move.pause_s) == (State.QUEUED, 0, 1, 0.0)
    assert after_attempt(JobFacts(1, 0, 19), end, RetryPolicy(), 0.5).state is State.FAILED


def test_a_succeeded_outcome_is_recorded_whatever_the_process_did() -> None:
    for cause in Cause:
        move = after_attempt(
            FRESH, AttemptEnd(cause, True, Outcome(1, "t", "succeeded", measurement=MEASURED)), POLICY, 0.5
        )
        assert (move.state, move.records, move.charge) == (State.SUCCEEDED, True, 1)


@pytest.mark.parametrize("kind", sorted(DETERMINISTIC_KINDS))
def test_a_deterministic_failure_is_final_at_once(kind: str) -> None:
    move = after_attempt(FRESH, failed(kind), POLICY, 0.5)
    assert (move.state, move.kind, move.charge) == (State.FAILED, kind, 1)


@pytest.mark.parametrize("kind", sorted(FAILURE_KINDS - DETERMINISTIC_KINDS))
def test_a_transient_failure_is_tried_three_times_with_longer_pauses(kind: str) -> None:
    pauses = []
    for charged in range(2):
        move = after_attempt(JobFacts(1, charged, 0), failed(kind), POLICY, 0.5)
        assert move.state is State.QUEUED
        pauses.append(move.pause_s)
    assert pauses == [10.0, 40.0]
    last = after_attempt(JobFacts(1, 2, 0), failed(kind), POLICY, 0.5)
    assert (last.state, last.kind) == (State.FAILED, kind)
    assert "3 attempts" in (last.reason or "")


def test_a_worker_that_ends_without_an_outcome_has_crashed_only_if_it_had_started() -> None:
    crashed = after_attempt(FRESH, AttemptEnd(Cause.ENDED, True, None, "signal 9"), POLICY, 0.5)
    assert (crashed.state, crashed.charge) == (State.QUEUED, 1)
    waiting = after_attempt(FRESH, AttemptEnd(Cause.ENDED, False), POLICY, 0.5)
    assert (waiting.state, waiting.charge, waiting.pause_s) == (State.QUEUED, 0, 0.0)


def test_the_daemons_own_death_charges_nobody_but_not_for_ever() -> None:
    move = after_attempt(FRESH, AttemptEnd(Cause.ORPHANED, True), POLICY, 0.5)
    assert (move.state, move.charge, move.orphan, move.pause_s) == (State.QUEUED, 0, 1, 0.0)
    last = after_attempt(JobFacts(1, 0, ORPHANED_MAX - 1), AttemptEnd(Cause.ORPHANED, True), POLICY, 0.5)
    assert (last.state, last.kind) == (State.FAILED, "crash")


def test_a_stop_in_good_order_gives_the_job_back_uncharged() -> None:
    move = after_attempt(FRESH, AttemptEnd(Cause.RELEASED, True), POLICY, 0.5)
    assert (move.state, move.charge, move.orphan) == (State.QUEUED, 0, 0)


def test_a_file_that_changed_while_it_was_evaluated_is_superseded_and_not_charged() -> None:
    move = after_attempt(FRESH, AttemptEnd(Cause.ENDED, True, Outcome(1, "t", "superseded")), POLICY, 0.5)
    assert (move.state, move.kind, move.charge) == (State.CANCELLED, "superseded", 0)


@given(
    charged=st.integers(0, 50),
    orphaned=st.integers(0, ORPHANED_MAX - 1),
    cause=st.sampled_from(list(Cause)),
    started=st.booleans(),
    kind=st.sampled_from([None, *sorted(FAILURE_KINDS)]),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_no_end_leaves_a_job_running_and_every_failure_has_a_kind(
    charged: int, orphaned: int, cause: Cause, started: bool, kind: str | None, jitter: float
) -> None:
    outcome = Outcome(1, "t", "failed", kind=kind, reason="why") if kind else None
    move = after_attempt(JobFacts(1, charged, orphaned), AttemptEnd(cause, started, outcome), POLICY, jitter)
    assert move.state is not State.RUNNING
    assert (move.state is not State.FAILED) or move.kind in FAILURE_KINDS
    assert 0 <= move.pause_s <= BACKOFF_MAX_S
    assert move.charge + move.orphan <= 1


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_fourfold_is_spread_and_capped(charged: int, jitter: float) -> None:
    pause = backoff_s(10.0, charged, jitter)
    middle = min(10.0 * 4 ** min(charged - 1, 16), BACKOFF_MAX_S)
    assert 0.8 * middle <= pause <= min(1.2 * middle, BACKOFF_MAX_S)
