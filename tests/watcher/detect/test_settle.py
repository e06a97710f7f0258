"""When a file is ready to be read: observations and times in, due paths out."""

from __future__ import annotations

from watcher.detect.settle import CLOSED_SETTLE_S, Settler
from watcher.domain.checkpoint import Fingerprint


def version(size: int, mtime_ns: int = 1) -> Fingerprint:
    return Fingerprint(1, 2, size, mtime_ns, mtime_ns)


def due(settler: Settler, now_s: float) -> list[str]:
    return [candidate.path for candidate in settler.due(now_s)]


def test_a_file_is_due_once_it_was_quiet_for_the_settle_time() -> None:
    settler = Settler(2.0, 600.0)
    settler.observe("a.pt", version(1), 10.0)
    assert due(settler, 11.9) == [] and due(settler, 12.0) == ["a.pt"]


def test_a_change_restarts_that_paths_timer_and_no_others() -> None:
    settler = Settler(2.0, 600.0)
    settler.observe("a.pt", version(1), 10.0)
    settler.observe("b.pt", version(1), 10.0)
    assert settler.observe("a.pt", version(2), 11.5)
    assert due(settler, 12.0) == ["b.pt"] and due(settler, 13.5) == ["a.pt", "b.pt"]


def test_seeing_the_same_version_again_changes_nothing() -> None:
    settler = Settler(2.0, 600.0)
    settler.observe("a.pt", version(1), 10.0)
    assert not settler.observe("a.pt", version(1), 11.9)
    assert due(settler, 12.0) == ["a.pt"]


def test_a_close_shortens_the_wait_and_a_later_change_takes_that_back() -> None:
    settler = Settler(2.0, 600.0)
    settler.observe("a.pt", version(1), 10.0)
    settler.observe("a.pt", version(1), 10.1, closed=True)
    assert due(settler, 10.0 + CLOSED_SETTLE_S) == ["a.pt"]
    settler.observe("a.pt", version(2), 10.6)
    assert due(settler, 12.5) == [] and due(settler, 12.6) == ["a.pt"]


def test_mtimes_from_the_future_or_long_ago_settle_like_any_other() -> None:
    settler = Settler(2.0, 600.0)
    for name, mtime_ns in (("future.pt", 2**62), ("past.pt", 0)):
        settler.observe(name, version(1, mtime_ns), 10.0)
    assert sorted(due(settler, 12.0)) == ["future.pt", "past.pt"]


def test_an_incomplete_file_is_looked_at_ever_more_seldom_and_given_up_in_the_end() -> None:
    settler = Settler(2.0, 60.0)
    settler.observe("a.pt", version(1), 0.0)
    pauses, now_s = [], 2.0
    for _ in range(5):
        candidate = next(settler.due(now_s))
        settler.wait(candidate, now_s, "no end record")
        pauses.append(candidate.due_s - now_s)
        now_s = candidate.due_s
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0]
    assert settler.given_up(candidate, 60.0) and not settler.given_up(candidate, 59.0)


def test_a_file_that_waits_for_days_is_probed_every_half_minute_and_overflows_nothing() -> None:
    """The pause doubles; unbounded, it is no float any more at probe 1,025: after 8.5 hours."""
    for settle_s in (2.0, 1e-9, 3600.0):
        settler = Settler(settle_s, 1e9)
        settler.observe("a.pt", version(1), 0.0)
        candidate, now_s = settler.candidates["a.pt"], 4000.0
        for _ in range(5_000):
            settler.wait(candidate, now_s, "waits for its marker")
            assert now_s < candidate.due_s <= now_s + 30.0
            now_s = candidate.due_s
        assert candidate.probes == 5_000


def test_a_missing_name_is_not_looked_at_until_it_is_seen_again() -> None:
    settler = Settler(2.0, 60.0)
    settler.observe("a.pt", version(1), 0.0)
    settler.suspend(settler.candidates["a.pt"], 1.0)
    assert settler.next_due_s() is None and due(settler, 1e6) == []
    assert settler.gone_before(0.5) == [] and [c.path for c in settler.gone_before(1.0)] == ["a.pt"]
    assert settler.observe("a.pt", version(1), 5.0)
    assert settler.gone_before(1e6) == [] and due(settler, 5.0) == ["a.pt"]
