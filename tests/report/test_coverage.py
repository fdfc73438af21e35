"""Intervals hold what they say: simulated coverage of the nominal 95 %."""

from __future__ import annotations

import pytest

import l2l.suite.report.statistics.bootstrap
from benchmarks.coverage import CASES, DISTRIBUTIONS, coverage

NOMINAL = 0.93
BAND = "band of a mean curve"  # is called otherwise, and decides nothing
REPETITIONS = {8: 1000, 20: 500, 100: 250}


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("case", [case for case in CASES if case != BAND])
def test_intervals_hold_the_truth_as_often_as_they_say(
    case: str, distribution: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.report.statistics.bootstrap, "RESAMPLES", 399)
    repetitions = REPETITIONS[n] // (5 if case == "spread of means" else 1)
    chance = 2 * (NOMINAL * (1 - NOMINAL) / repetitions) ** 0.5
    assert coverage(case, distribution, n, repetitions) >= NOMINAL - chance
