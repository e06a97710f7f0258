"""What healthy means, inside the daemon and from outside: pure rules, thresholds at their edges."""

from __future__ import annotations

import pytest

from watcher.domain.health import (
    DISK_MIN_BYTES,
    QUEUE_AGE_MAX_S,
    SILENT_MAX_S,
    Facts,
    Fault,
    HealthState,
    LockFacts,
    LockState,
    Pause,
    Paused,
    Problem,
    Reason,
    RunFacts,
    judge,
    judge_from_outside,
)
from watcher.domain.timestamps import iso
from watcher.log import REASONS, sentence

NOW_S = 1_800_000_000.0
RUN = RunFacts("gpt", "/ckpts", scan_age_s=5.0, interval_s=10.0)
HELD = LockFacts(LockState.HELD, "/s/lock", 7, age_s=3600.0)


@pytest.mark.parametrize(
    ("facts", "state", "problem"),
    [
        (Facts([RUN]), HealthState.OK, None),
        (Facts([RUN], paused=Paused(Pause.DATA_CHANGING, ("v.bin",))), HealthState.OK, None),
        (Facts([RUN], paused=Paused(Pause.BY_USER)), HealthState.PAUSED, Problem.PAUSED_BY_USER),
        (Facts([RUN], paused=Paused(Pause.DATA_MISSING, ("v.bin",))), HealthState.PAUSED, Problem.DATA_MISSING),
        (Facts([RUN], database="locked"), HealthState.PAUSED, Problem.DATABASE),
        (Facts([RUN], launch_failures=1, launch_failure="x"), HealthState.OK, None),
        (Facts([RUN], launch_failures=2, launch_failure="x"), HealthState.PAUSED, Problem.LAUNCH_FAILED),
        (Facts([RUN], oldest_waiting_s=QUEUE_AGE_MAX_S), HealthState.OK, None),
        (Facts([RUN], oldest_waiting_s=QUEUE_AGE_MAX_S + 1), HealthState.DEGRADED, Problem.QUEUE_OLD),
        (Facts([RUN], state_free_bytes=DISK_MIN_BYTES - 1), HealthState.DEGRADED, Problem.DISK_FULL),
        (Facts([RUN], faults=[Fault("sink csv", "ValueError: x", 3, 0.0)]), HealthState.DEGRADED, Problem.FAULT),
        (Facts([RunFacts("gpt", "/c", 61.0, 10.0)]), HealthState.DEGRADED, Problem.SCAN_LATE),
        (Facts([RunFacts("gpt", "/c", 60.0, 10.0)]), HealthState.OK, None),
        (Facts([RunFacts("gpt", "/c", 61.0, 10.0, looked=9)]), HealthState.DEGRADED, Problem.SCAN_STUCK),
    ],
)
def test_a_daemon_judges_itself(facts, state, problem):
    health = judge(facts)
    assert health.state is state
    assert [reason.problem for reason in health.reasons] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("report", "lock", "state", "exit_code"),
    [
        (None, LockFacts(LockState.FREE), HealthState.DOWN, 10),
        (None, LockFacts(LockState.UNREADABLE, "/s/lock"), HealthState.UNKNOWN, 12),
        (None, LockFacts(LockState.HELD, "/s/lock", 7, age_s=SILENT_MAX_S), HealthState.STARTING, 0),
        (None, HELD, HealthState.STALLED, 11),
        (None, LockFacts(LockState.HELD, "/s/lock", 7, other_verb="eval"), HealthState.DOWN, 10),
        ({"pid": 7, "at": iso(NOW_S), "state": "ok"}, HELD, HealthState.OK, 0),
        ({"pid": 6, "at": iso(NOW_S), "state": "ok"}, HELD, HealthState.STALLED, 11),
        ({"pid": 7, "at": iso(NOW_S - SILENT_MAX_S - 1), "state": "ok"}, HELD, HealthState.STALLED, 11),
        ({"pid": 7, "at": iso(NOW_S), "state": "paused", "reasons": ["disk"]}, HELD, HealthState.PAUSED, 12),
        ({"pid": 7, "at": iso(NOW_S), "state": "unheard of"}, HELD, HealthState.DEGRADED, 12),
    ],
)
def test_a_daemon_is_judged_from_outside(report, lock, state, exit_code):
    health = judge_from_outside(report, lock, NOW_S)
    assert (health.state, health.exit_code) == (state, exit_code)


def test_a_reader_that_cannot_use_the_database_says_so_without_hiding_the_daemons_own_state():
    report = {"pid": 7, "at": iso(NOW_S), "state": "ok"}
    health = judge_from_outside(report, HELD, NOW_S, database="it is locked")
    assert (health.state, [sentence(reason) for reason in health.reasons]) == (HealthState.DEGRADED, ["it is locked"])


def test_every_problem_has_a_sentence():
    assert set(REASONS) == set(Problem)
    words = sentence(Reason(Problem.NO_DAEMON, {"pid": None, "at": None}))
    assert words == "no daemon runs on this database; start one with `ckptwatch run`"
