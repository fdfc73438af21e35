"""How often the suite's 95 % intervals hold the truth, simulated: python -m benchmarks.coverage.

Runs of one instance share its luck, as the suite's do. Normal losses vary by a tenth to a fifth;
lognormal ones have σ = 1, as skewed as the quadratics', whose mean a few instances decide.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from l2l.suite.report.statistics.intervals import (
    Floats,
    Interval,
    mean_band,
    mean_loss,
    paired_difference,
    ratio_of_means,
    spread_of_means,
)

LEVELS = np.array([1.25, 1.1, 1.0])  # means of three optimizers on the same instances
SHARED, OWN = 1.0, 0.3  # σ of an instance's luck, and of what each optimizer adds


def normal(rng: np.random.Generator, n: int) -> Floats:
    """Losses [n, 3], with the means `LEVELS`."""
    return LEVELS * (1 + 0.2 * rng.normal(size=(n, 1)) + 0.1 * rng.normal(size=(n, 3)))


def lognormal(rng: np.random.Generator, n: int) -> Floats:
    """As `normal`."""
    logs = SHARED * rng.normal(size=(n, 1)) + OWN * rng.normal(size=(n, 3))
    return LEVELS * np.exp(logs - (SHARED**2 + OWN**2) / 2)


def band(losses: Floats) -> Interval:
    """What figures show around the mean of `losses` [n, 1] at one step."""
    mean, low, high = mean_band(losses)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), len(losses))


@dataclass(frozen=True)
class Case:
    """A statistic of losses [n, 3], and its true value."""

    interval: Callable[[Floats], Interval]
    truth: float


CASES = {
    "mean loss": Case(lambda x: mean_loss(x[:, 2]), 1.0),
    "paired difference": Case(lambda x: paired_difference(x[:, 0], x[:, 2]), 0.25),
    "ratio of means": Case(lambda x: ratio_of_means(x[:, 0], x[:, 2]), 1.25),
    "spread of means": Case(spread_of_means, 1.25),
    "band of a mean curve": Case(lambda x: band(x[:, 2:]), 1.0),
}
DISTRIBUTIONS = {"normal": normal, "lognormal": lognormal}


def coverage(case: str, distribution: str, n: int, repetitions: int, seed: int = 0) -> float:
    """The share of `repetitions` samples of n runs whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(repetitions):
        found = CASES[case].interval(DISTRIBUTIONS[distribution](rng, n))
        held += found.low <= CASES[case].truth <= found.high
    return held / repetitions


def main() -> None:
    """Print a row for each statistic and distribution, a column for each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 8, 20, 100])
    chosen = parser.parse_args()
    print("| | losses |", " | ".join(f"n = {n}" for n in chosen.runs), "|")
    for case in CASES:
        for distribution in DISTRIBUTIONS:
            found = [coverage(case, distribution, n, chosen.repetitions) for n in chosen.runs]
            print(f"| {case} | {distribution} |", " | ".join(f"{x:.3f}" for x in found), "|")


if __name__ == "__main__":
    main()
