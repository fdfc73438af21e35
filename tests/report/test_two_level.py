"""Intervals over several trainings hold for other trainings too, and so do the claims on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit
from tidy_curves import INSTANCES, STEPS, condensed, experiment, known, rows

import l2l.suite.report.statistics.two_level
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.statistics.intervals import mean_interval, paired_difference
from l2l.suite.report.statistics.two_level import difference_over_trainings

TRAININGS = 5


def losses(rng: np.random.Generator, n: int, between: float) -> np.ndarray:
    """Of each training on each instance [TRAININGS, n], of mean 0; normal at both levels."""
    training = between * rng.normal(size=(TRAININGS, 1))
    return training + 0.3 * rng.normal(size=(1, n)) + 0.3 * rng.normal(size=(TRAININGS, n))


@pytest.mark.parametrize("between", [0.0, 0.1, 0.3])
def test_the_interval_holds_the_mean_over_all_trainings(
    between: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.report.statistics.two_level, "RESAMPLES", 399)
    rng = np.random.default_rng(1)
    held, naive, repetitions = 0, 0, 300
    for _ in range(repetitions):
        sample = losses(rng, 50, between)
        found = difference_over_trainings(sample, np.zeros(50))
        held += found.low <= 0 <= found.high
        pooled = mean_interval(sample.mean(axis=0))
        naive += pooled.low <= 0 <= pooled.high
    chance = 2 * (0.93 * 0.07 / repetitions) ** 0.5
    assert held / repetitions >= 0.93 - chance
    # That of instances alone takes these five trainings for all there are.
    assert between < 0.3 or naive / repetitions < 0.85


def test_estimate_and_ends_are_those_of_one_table_of_differences() -> None:
    sample = losses(np.random.default_rng(2), 30, 0.1)
    higher = np.random.default_rng(3).normal(size=30)
    found = difference_over_trainings(sample, higher)
    assert found.estimate == pytest.approx((sample - higher).mean())
    assert found.low < found.estimate < found.high
    assert found == difference_over_trainings(sample, higher)
    assert np.isnan(difference_over_trainings(sample[:2], higher).low)


def test_divergence_counts_as_in_plain_differences() -> None:
    sample = losses(np.random.default_rng(2), 30, 0.1) - 2
    sample[3, 7] = np.inf
    found = difference_over_trainings(sample, np.zeros(30))
    assert found == paired_difference(sample.mean(axis=0), np.zeros(30))
    assert found.high == np.inf
    higher = np.zeros(30)
    higher[7] = np.inf
    sample[3, 7] = 0.0
    found = difference_over_trainings(sample, higher)
    assert (found.n, found.estimate) == (30, pytest.approx(np.delete(sample, 7, axis=1).mean()))
    assert found.high < np.inf


def test_divergence_of_what_is_claimed_above_is_left_out_and_of_the_other_infinite() -> None:
    sample = losses(np.random.default_rng(2), 30, 0.1) + 2
    plain = difference_over_trainings(sample, np.zeros(30), above=True)
    assert plain.estimate == pytest.approx(-sample.mean())
    assert plain.low < plain.estimate < plain.high < 0
    sample[3, 7] = np.inf
    found = difference_over_trainings(sample, np.zeros(30), above=True)
    assert found.estimate == pytest.approx(-np.delete(sample, 7, axis=1).mean())
    assert found.high < 0, "still over trainings as well"
    assert found.high - found.low > 0.7 * (plain.high - plain.low)
    lost = np.full_like(sample, np.inf)
    assert difference_over_trainings(lost, np.zeros(30), above=True).high == -np.inf
    other = np.zeros(30)
    other[2] = np.inf
    assert difference_over_trainings(sample, other, above=True).high == np.inf


def verdict(
    test: str,
    ends: list[float],
    lost: Sequence[int] = (),
    adam: Sequence[int] = (),
    **options: object,
) -> pd.Series:
    """On trainings that end so, of which all diverged on instances `lost`, and ADAM on `adam`."""
    names = [f"LSTM {number}" for number in range(len(ends))]
    all_options = {"panel": "p", "optimizers": names, **options}
    info = experiment([*names, "ADAM"], test, all_options)
    curves = [rows(name, end, diverged=lost) for name, end in zip(names, ends, strict=True)]
    tables = condensed(info, pd.concat([*curves, rows("ADAM", 0.2, diverged=adam)]))
    return check_claims([info], *known(tables)).iloc[0]


def test_trainings_that_agree_decide_and_those_that_differ_do_not() -> None:
    row = verdict("trainings_end_below_all", [0.15, 0.151, 0.149, 0.152, 0.15])
    assert (row.verdict, row.n) == ("reproduced", INSTANCES)
    assert "5 trainings" in row.note
    assert "one training" not in row.note
    # Each but one is below on all instances, yet another training may not be.
    assert verdict("trainings_end_below_all", [0.15, 0.15, 0.3, 0.14, 0.15]).verdict == (
        "inconclusive"
    )
    assert verdict("trainings_end_below_all", [0.3, 0.31, 0.29, 0.3, 0.3]).verdict == "contradicted"
    assert verdict("trainings_end_below_all", [0.15, 0.15]).verdict == "inconclusive"


def test_trainings_are_compared_until_an_update() -> None:
    ends = [0.15, 0.151, 0.149, 0.152, 0.15]
    halfway = verdict("trainings_end_below_all", ends, until=STEPS / 2)
    assert halfway.note.startswith(f"until update {STEPS // 2}: 5 trainings")
    # Losses fall from 2 by a constant factor per update.
    scale = (halfway.estimate, verdict("trainings_end_below_all", ends).estimate)
    assert scale[0] / scale[1] == pytest.approx((0.3**0.5 - 0.4**0.5) / (0.15 - 0.2), rel=0.2)


def test_divergence_is_above_any_baseline() -> None:
    ends = [0.25, 0.251, 0.249, 0.252, 0.25]
    for lost in ((), (3,), range(INSTANCES)):
        row = verdict("trainings_end_above_all", ends, lost)
        assert (row.verdict, row.n) == ("reproduced", INSTANCES)
    assert row.ci_low == np.inf
    assert "LSTM 0 diverged on 40 of 40, left out" in row.note
    row = verdict("trainings_end_above_all", ends, adam=[3])
    assert row.verdict == "inconclusive", "nor is a baseline below anything that diverged"
    assert "ADAM diverged on 1 of 40, counted against the claim" in row.note


def test_one_training_is_told_as_such() -> None:
    row = verdict("trainings_end_below_all", [0.15])
    assert row.verdict == "reproduced"
    assert row.note.endswith("; one training")


def test_sums_of_trainings_are_compared_with_the_bound() -> None:
    ends = [0.15, 0.151, 0.149, 0.152, 0.15]
    assert verdict("trainings_sum_below", ends, bound=100.0).verdict == "reproduced"
    assert verdict("trainings_sum_below", ends, bound=1.0).verdict == "contradicted"


def test_no_end_is_nearer_than_that_of_t_with_satterthwaites_degrees_of_freedom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(l2l.suite.report.statistics.two_level, "RESAMPLES", 399)
    rng, trainings, n = np.random.default_rng(4), 3, 30
    for _ in range(5):
        training, instance, own = (rng.normal(size=shape) for shape in ((3, 1), (1, n), (3, n)))
        sample = 0.2 * training + 0.3 * instance + 0.3 * own
        by_training, by_instance = sample.mean(1, keepdims=True), sample.mean(0, keepdims=True)
        rest = sample - by_training - by_instance + sample.mean()
        noise = (rest**2).sum() / (2 * (n - 1))
        parts = {2: n * by_training.var(ddof=1), n - 1: trainings * by_instance.var(ddof=1)}
        assert min(parts.values()) > noise, "no part is cut off at 0"
        summed = sum(parts.values()) - noise
        squares = sum(each**2 / freedom for freedom, each in parts.items())
        freedom = summed**2 / (squares + noise**2 / (2 * (n - 1)))
        reach = stdtrit(freedom, 0.975) * np.sqrt(summed / (trainings * n))
        found = difference_over_trainings(sample, np.zeros(n), tail=0.025)
        assert found.high - found.estimate >= reach * (1 - 1e-9)
        assert found.estimate - found.low >= reach * (1 - 1e-9)
