"""Scores of a problem, on curves whose answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from l2l.suite.report.scores.anytime import Course, course_of, envelope, loss_at, reached
from l2l.suite.report.scores.speed import (
    profile_score,
    rank,
    ratios,
    reference_of,
    speed_up,
    target_of,
    updates_to,
)
from l2l.suite.report.statistics.intervals import Floats
from l2l.suite.report.statistics.problems import (
    RESAMPLES,
    instance_weights,
    interquartile_mean,
    over_problems,
    plain_mean,
)

EQUAL = np.full((1, 3), 1 / 3)


def course(speed: float, last: int = 100) -> Course:
    """Losses 1 / (1 + speed · t / 10), at every tenth update, of three instances."""
    steps = np.arange(0, last + 1, 10).astype(float)
    scales = np.array([[0.5], [1.0], [1.5]])
    return Course(np.arange(3), steps, scales / (1 + speed * steps / 10))


@pytest.mark.parametrize(("speed", "expected"), [(2.0, 2.0), (1.0, 1.0), (0.5, 0.5), (4.0, 4.0)])
def test_speed_up_is_how_many_times_as_fast(speed: float, expected: float) -> None:
    reference = reference_of([course(1.0), course(1.0, 500)], EQUAL)
    found = speed_up(course(speed), reference, EQUAL, 100)
    assert found.low == found.high == pytest.approx(expected)
    # ADAM's losses between recorded updates are on a straight line, which is a little above them.
    assert speed_up(course(speed), reference, EQUAL, 50).low == pytest.approx(expected, rel=0.03)


def test_what_adam_never_reaches_is_a_lower_bound() -> None:
    short = speed_up(course(2.0), reference_of([course(1.0)], EQUAL), EQUAL, 100)
    assert (short.low[0], short.high[0]) == (1.0, np.inf)
    long = reference_of([course(1.0), course(1.0, 500)], EQUAL)
    found = speed_up(course(7.0), long, EQUAL, 100)
    assert (found.low[0], found.high[0]) == (5.0, np.inf)


def test_reference_is_the_lower_envelope() -> None:
    slow_then_fast = Course(
        np.arange(3), np.array([0.0, 100.0, 200.0]), np.ones((3, 1)) * [3, 2, 0]
    )
    fast_then_up = Course(np.arange(3), np.array([0.0, 50.0, 100.0]), np.ones((3, 1)) * [3, 1, 2])
    found = reference_of([slow_then_fast, fast_then_up], EQUAL)
    assert found.steps.tolist() == [0, 50, 100, 200]
    assert found.lowest[0] == pytest.approx([3, 1, 1, 0])


def test_updates_are_counted_between_recorded_ones() -> None:
    steps, lowest = np.array([0.0, 10.0, 20.0]), np.array([[4.0, 2.0, 2.0]] * 4)
    targets = np.array([5.0, 3.0, 2.0, 1.0])
    assert reached(steps, lowest, targets).tolist() == [0, 5, 10, np.inf]
    assert loss_at(steps, lowest, 5)[0] == 3.0
    assert envelope(np.array([[3.0, 1.0, 2.0]])).tolist() == [[3, 1, 1]]


def test_run_that_diverged_counts_as_if_it_had_stayed_where_it_began() -> None:
    losses = pd.DataFrame([[2.0, 1.0, 0.5], [4.0, 9.0, np.inf]], columns=[0, 1, 2])
    assert course_of(losses).loss.tolist() == [[2, 1, 0.5], [4, 4, 4]]


def test_an_optimizer_that_goes_nowhere_has_no_speed() -> None:
    stuck = Course(np.arange(3), course(1.0).steps, course(1.0).loss[:, :1] * np.ones(11))
    assert speed_up(stuck, reference_of([course(1.0)], EQUAL), EQUAL, 100).low[0] == 0.0


def test_profile_is_the_share_of_problems_within_a_ratio() -> None:
    ratio = np.array([1.0, 2.5, 4.0, np.inf, np.nan])
    assert profile_score(ratio).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0])
    # The score of all problems is the mean of the profile, the share of them within each ratio.
    taus = np.linspace(1, 4, 30001)
    assert profile_score(ratio).mean() == pytest.approx((ratio[:, None] <= taus).mean(), abs=1e-4)


def test_ratios_are_to_the_best_that_reaches_the_target() -> None:
    found = ratios({"a": np.array([10.0, np.inf]), "b": np.array([25.0, np.inf])})
    assert found["a"].tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert found["b"].tolist() == pytest.approx([2.5, np.nan], nan_ok=True)


def test_all_are_best_where_all_have_the_target_from_the_start() -> None:
    found = ratios({"a": np.zeros(1), "b": np.zeros(1), "c": np.ones(1)})
    assert {name: ratio.item() for name, ratio in found.items()} == {"a": 1, "b": 1, "c": np.inf}
    assert profile_score(found["a"]).item() == 1.0


def test_target_is_what_the_best_baseline_has_after_three_quarters() -> None:
    target = target_of(course(1.0), 80)
    assert target == pytest.approx(1 / 7)
    assert updates_to(course(1.0), target, EQUAL)[0] == pytest.approx(60)
    assert updates_to(course(2.0), target, EQUAL)[0] == pytest.approx(30)
    assert updates_to(course(0.1), target, EQUAL)[0] == np.inf


def test_equals_share_their_places() -> None:
    finals = {"a": np.array([1.0]), "b": np.array([3.0]), "c": np.array([1.0])}
    assert {name: place.item() for name, place in rank(finals).items()} == {
        "a": 1.5,
        "b": 3,
        "c": 1.5,
    }


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([1.0, 2.0, 3.0, 4.0], 2.5),
        ([0.0, 1.0, 2.0, 3.0, 100.0], 2.0),
        ([0.0, 1.0, 2.0, np.inf], 1.5),
        ([7.0, np.nan, np.nan, np.nan], 7.0),
        ([np.nan, np.nan], np.nan),
        ([1.0, np.inf, np.inf], np.inf),
    ],
)
def test_interquartile_mean(values: list[float], mean: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(mean, nan_ok=True)


def test_interval_over_problems_covers_both_levels() -> None:
    def of(problems: Floats) -> Floats:
        rng = np.random.default_rng(1)
        return problems + 0.01 * rng.normal(size=(1 + RESAMPLES, len(problems)))

    alike, apart = of(np.ones(12)), of(np.linspace(0, 2, 12))
    near, far = over_problems(alike, plain_mean), over_problems(apart, plain_mean)
    assert near.high - near.low < 0.02
    # 95 % of means of twelve such problems.
    assert far.high - far.low == pytest.approx(
        2 * 1.96 * np.linspace(0, 2, 12).std() / 12**0.5, rel=0.1
    )
    assert far.low < far.estimate < far.high
    assert over_problems(np.full((1 + RESAMPLES, 2), np.nan), plain_mean).n == 0


def test_interval_of_one_problem_among_others_is_that_of_its_instances() -> None:
    values = np.full((1 + RESAMPLES, 13), np.nan)
    values[:, 4] = np.random.default_rng(2).normal(size=1 + RESAMPLES)
    low, high = np.quantile(values[1:, 4], [0.025, 0.975])
    for mean in (plain_mean, interquartile_mean):
        found = over_problems(values, mean)
        assert found.n == 1
        assert found.high - found.low == pytest.approx(high - low, rel=0.05)


def test_a_bound_that_matters_makes_the_high_end_infinite() -> None:
    low = np.tile([1.0, 1.2, 1.4, 5.0], (1 + RESAMPLES, 1))
    high = np.where(low == 5.0, np.inf, low)
    found = over_problems(low, interquartile_mean, high)
    assert found.estimate == pytest.approx(1.3)
    # Among resampled problems the bounded one is often in the middle half.
    assert found.high == np.inf
    assert found.low >= 1.0


def test_the_first_weights_are_equal_and_all_sum_to_one() -> None:
    weights = instance_weights(5)
    assert weights[0].tolist() == [0.2] * 5
    assert weights.sum(axis=1) == pytest.approx(np.ones(1 + RESAMPLES))
    assert weights[1:].std() > 0.1
