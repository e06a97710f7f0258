"""Faults stay where they are: who is paused, for how long, and what passes through."""

from __future__ import annotations

import io

import pytest

from watcher.errors import StoreUnavailable
from watcher.log import Log
from watcher.pipeline.isolation import SHOWN_S, Isolation


def fail() -> None:
    raise ValueError("made up")


def test_a_part_that_fails_is_paused_longer_each_time_and_heals():
    stream = io.StringIO()
    isolation = Isolation(Log(1, stream))
    assert not isolation.run("run a", 0.0, fail)
    assert not isolation.run("run a", 1.9, lambda: pytest.fail("its pause of 2 s is not over"))
    assert not isolation.run("run a", 2.0, fail)
    assert not isolation.run("run a", 9.9, lambda: pytest.fail("its pause of 8 s is not over"))
    assert [(fault.part, fault.failures, fault.error) for fault in isolation.faults(9.9)] == [
        ("run a", 2, "ValueError: made up")
    ]
    assert isolation.run("run b", 3.0, lambda: None)
    assert isolation.run("run a", 10.0, lambda: None)
    assert isolation.faults(10.0) == []
    assert "Traceback" in stream.getvalue() and "run a works again" in stream.getvalue()


def test_the_database_the_lock_and_the_settings_pass_through():
    def locked() -> None:
        raise StoreUnavailable("the database is locked")

    isolation = Isolation(Log(0, io.StringIO()))
    with pytest.raises(StoreUnavailable):
        isolation.run("run a", 0.0, locked)
    assert isolation.faults(0.0) == []


def test_a_fault_that_is_never_repeated_leaves_status_after_a_while():
    isolation = Isolation(Log(0, io.StringIO()))
    isolation.note("attempt 7", ValueError("made up"), 0.0)
    assert isolation.faults(SHOWN_S) and not isolation.faults(SHOWN_S + 2.1)
