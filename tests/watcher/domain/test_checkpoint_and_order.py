"""What a path tells, which paths count, and which checkpoint comes next."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.orders import fill_order
from watcher.domain.checkpoint import NamePattern, printable, stored
from watcher.domain.order import next_to_fill, wanted


@pytest.mark.parametrize(
    "name",
    ["optim.pt", "optim_000700_rank0.pt", "optimizer.pt", ".model.pt", "model.pt.tmp", "rng_state.pt", "meta.pt"],
)
def test_a_trainers_other_files_are_ignored_with_a_reason(name: str) -> None:
    pattern = NamePattern(("*.pt", "*.pt.tmp"))
    assert pattern.included(name) and not pattern.matches(name)
    assert "ignore list" in (pattern.why_ignored(name) or "")


@pytest.mark.parametrize(
    ("include", "yes", "no"),
    [
        (("*.pt",), ["a.pt", "a b\n.pt"], ["x/a.pt", "a.pth", "a.pt.bak"]),
        (("**/*.pt",), ["a.pt", "x/a.pt", "x/y/a.pt"], ["a.bin"]),
        (("step_*/model.pt",), ["step_1/model.pt"], ["step_1/x/model.pt", "model.pt"]),
        (("model_[0-9]*.pt",), ["model_7.pt"], ["model_x.pt"]),
        (("ckpt?.pt",), ["ckpt1.pt"], ["ckpt12.pt"]),
    ],
)
def test_globs_match_within_folders_and_across_them(include: tuple[str, ...], yes: list[str], no: list[str]) -> None:
    pattern = NamePattern(include)
    assert all(pattern.matches(path) for path in yes)
    assert not any(pattern.matches(path) for path in no)


def test_exclude_leaves_out_and_says_so() -> None:
    pattern = NamePattern(("*.pt",), ("best*.pt",))
    assert pattern.matches("a.pt") and not pattern.matches("best_1.pt")
    assert "exclude" in (pattern.why_ignored("best_1.pt") or "")


@given(st.text(max_size=40))
def test_shown_names_hold_nothing_that_moves_a_terminal(name: str) -> None:
    assert printable(name).isprintable()


@given(st.binary(min_size=1, max_size=30))
def test_any_bytes_in_a_name_can_be_stored(raw: bytes) -> None:
    assert stored(raw.decode("utf-8", "surrogateescape")).encode("utf-8")


@given(st.sets(st.integers(0, 500), max_size=40), st.sets(st.integers(0, 500), max_size=40))
def test_filling_takes_every_waiting_step_once_and_the_newest_first(waiting: set[int], done: set[int]) -> None:
    waiting -= done
    order = fill_order(sorted(waiting), done)
    assert sorted(order) == sorted(waiting)
    if waiting and max(waiting) > max(done, default=-1):
        assert order[0] == max(waiting)


@given(st.sets(st.integers(0, 300), min_size=1, max_size=30), st.sets(st.integers(0, 300), max_size=30))
def test_filling_takes_the_step_nearest_the_middle_of_the_widest_gap(waiting: set[int], done: set[int]) -> None:
    chosen = next_to_fill(waiting, done)
    if not done or max(waiting) >= max(done):
        assert chosen == max(waiting)
        return
    edges = [min(waiting) - 1, *sorted(done)]
    gaps = [(a, b) for a, b in itertools.pairwise(edges) if any(a <= step < b for step in waiting)]
    low, high = max(gaps, key=lambda gap: gap[1] - gap[0])
    inside = [step for step in waiting if low <= step < high]
    assert abs(chosen - (low + high) / 2) == min(abs(step - (low + high) / 2) for step in inside)


def test_filling_halves_the_widest_gap() -> None:
    order = fill_order(range(0, 101, 10), [0])
    assert order[:2] == [100, 50] and {order[2], order[3]} <= {20, 30, 70, 80}


def test_the_stride_takes_multiples_and_steps_that_nobody_knows() -> None:
    assert wanted(1000, 500) and wanted(None, 500) and not wanted(750, 500) and wanted(7, 1)
