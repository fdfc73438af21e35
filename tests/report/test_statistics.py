"""Intervals, and what diverged runs do to them."""

import numpy as np
import pytest

from l2l.suite.report.statistics.bootstrap import interval_ends, lognormal_ends
from l2l.suite.report.statistics.intervals import (
    Interval,
    mean_band,
    mean_interval,
    mean_loss,
    paired_difference,
    ratio_of_means,
    spread_of_means,
)

RNG = np.random.default_rng(0)
LUCK = np.exp(RNG.normal(size=100))


def plain_mean(means):
    return means[..., 0], np.ones_like(means)


def test_mean_interval_has_about_the_width_of_the_normal_one():
    values = RNG.normal(5.0, 2.0, size=400)
    found = mean_interval(values)
    assert found.estimate == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2.0 / 20, rel=0.15)
    assert found == mean_interval(values)


def test_interval_of_few_runs_is_students():
    """Before resamples tell anything; 4.302653 is the 97.5th percentile of t with 2 degrees."""
    values = np.array([1.0, 2.0, 4.0])
    reach = 4.302653 * values.std(ddof=1) / np.sqrt(3)
    ends = values.mean() - reach, values.mean() + reach
    assert interval_ends(values[:, None], plain_mean) == pytest.approx(ends)


def test_diverged_runs_are_left_out_of_means():
    found = mean_interval(np.array([1.0, 2.0, np.inf, 3.0, np.nan]))
    assert (found.estimate, found.n) == (2.0, 3)


def test_degenerate_samples_have_no_false_precision():
    assert mean_interval(np.empty(0)).n == 0
    assert np.isnan(mean_interval(np.array([1.0])).low)
    same = mean_interval(np.full(5, 2.0))
    assert (same.low, same.high) == (2.0, 2.0)


def test_interval_of_few_skewed_losses_allows_for_larger_ones():
    few = LUCK[:8]
    low, high = zip(interval_ends(few[:, None], plain_mean), lognormal_ends(few), strict=True)
    assert mean_loss(few) == Interval(few.mean(), min(low), max(high), 8)
    for others in (LUCK[:50], np.array([1e-12, 1.0, 1.0, 2.0]), few - few.min(), np.full(5, 0.1)):
        assert mean_loss(others) == mean_interval(others)


def test_pairing_sees_a_difference_far_below_the_spread_of_runs():
    better = LUCK * 0.98
    found = paired_difference(better, LUCK)
    assert found.high < 0
    unpaired = mean_interval(better)
    assert unpaired.low < LUCK.mean() < unpaired.high


def test_divergence_of_the_lower_side_counts_against_it():
    one, five = LUCK * 0.5, LUCK * 0.5
    one[0] = np.inf
    five[:5] = np.inf
    assert paired_difference(one, LUCK).high == np.inf
    assert paired_difference(one, LUCK).low < 0
    assert paired_difference(five, LUCK).low == np.inf


def test_divergence_of_the_higher_side_is_left_out_unless_all_of_it_is():
    some = LUCK.copy()
    some[:5] = np.inf
    found = paired_difference(LUCK * 0.5, some)
    assert found.n == 100, "as many were run"
    assert found.estimate == pytest.approx(-0.5 * LUCK[5:].mean())
    lost, one = np.full(100, np.inf), LUCK.copy()
    assert paired_difference(LUCK, lost) == Interval(-np.inf, -np.inf, -np.inf, 100)
    assert ratio_of_means(LUCK, lost) == Interval(0.0, 0.0, 0.0, 100)
    # Where a run of the lower side diverged as well, nothing is known.
    one[3] = np.inf
    assert paired_difference(one, lost) == Interval(np.inf, -np.inf, np.inf, 100)
    assert ratio_of_means(one, lost) == Interval(np.inf, 0.0, np.inf, 100)
    assert paired_difference(lost, lost).low == np.inf


def test_ratios_and_spreads():
    assert ratio_of_means(LUCK * 0.5, LUCK).estimate == pytest.approx(0.5)
    noise = 1 + 0.01 * RNG.normal(size=(100, 3))
    spread = spread_of_means(np.stack([LUCK, LUCK * 1.2, LUCK * 1.1], axis=1) * noise)
    assert spread.estimate == pytest.approx(1.2, rel=0.01)
    assert spread.low < spread.estimate < spread.high


@pytest.mark.parametrize("place", [0, 1, 2])
def test_spread_is_unknown_where_a_mean_has_no_logarithm(place):
    samples = np.stack([LUCK, LUCK * 1.2, LUCK * 1.1], axis=1)
    samples[:, place] -= 10
    spread = spread_of_means(samples)
    assert np.isnan([spread.estimate, spread.low, spread.high]).all()


def test_inverse_turns_the_ends_around():
    assert Interval(2.0, 0.0, 4.0, 5).inverted() == Interval(0.5, 0.25, np.inf, 5)
    assert Interval(np.inf, 0.5, np.inf, 5).inverted() == Interval(0.0, 0.0, 2.0, 5)


def test_band_is_around_the_mean_and_repeats():
    losses = np.exp(RNG.normal(size=(50, 7)))
    mean, low, high = mean_band(losses)
    assert np.allclose(mean, losses.mean(axis=0))
    assert (low < mean).all() and (mean < high).all()
    assert np.array_equal(low, mean_band(losses)[1])
