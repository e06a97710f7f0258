"""Perplexity, bits per byte and standard errors: their limits, and their coverage by simulation."""

import math

import numpy as np
import pytest

from evalcore.measure.metrics import bits_per_byte, perplexity, standard_error


def test_perplexity_has_a_reason_where_it_has_no_value():
    assert perplexity(1.0) == (math.e, None)
    for loss, word in ((1000.0, "float range"), (math.nan, "NaN"), (math.inf, "infinite")):
        ppl, reason = perplexity(loss)
        assert ppl is None and word in reason


def test_bits_per_byte_of_a_fair_byte_is_eight():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8.0)
    assert bits_per_byte(1.0, 0) is None and bits_per_byte(math.nan, 5) is None


def test_standard_error_of_equal_windows_is_the_textbook_one():
    nats, targets = np.array([10.0, 14.0, 12.0, 8.0]), np.array([4, 4, 4, 4])
    assert standard_error(nats, targets) == pytest.approx(np.std(nats / 4, ddof=1) / 2)


def test_standard_error_is_unknown_for_one_group_and_for_values_that_are_not_finite():
    assert standard_error(np.array([1.0]), np.array([3])) is None
    assert standard_error(np.array([1.0, math.nan]), np.array([3, 3])) is None


def test_the_interval_of_95_percent_covers_the_truth_in_about_95_percent():
    rng = np.random.default_rng(7)
    truth, hits, rounds = 3.0, 0, 2000
    for _ in range(rounds):
        targets = rng.integers(20, 200, size=60)  # groups of unequal size, as documents are
        means = rng.gamma(9.0, truth / 9.0, size=60)
        nats = means * targets
        error = standard_error(nats, targets)
        hits += abs(nats.sum() / targets.sum() - truth) < 1.96 * error
    assert 0.92 < hits / rounds < 0.97
