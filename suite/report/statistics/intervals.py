"""Means, differences and ratios over test instances, with 95 % intervals.

A run that diverged has a loss that is not finite. It is left out of plain means. In comparisons
there is a side that a claim holds to be lower: a diverged run there makes the mean infinite, as it
is, in every resample that has the run; a diverged run on the other side is left out, which never
favours the claim. If all of the other side diverged, the lower one is below it by any amount; if
some of its own runs diverged as well, nothing is known. `n` counts all compared runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from l2l.suite.report.statistics.bootstrap import (
    RESAMPLES,
    SEED,
    TAIL,
    Statistic,
    interval_ends,
    lognormal_ends,
)
from l2l.suite.report.statistics.bootstrap import Floats as Floats

BAND_RESAMPLES = 1000
# From so many skewed losses on, their mean's interval holds without an assumed distribution.
FEW = 50
# Standard deviation of the logarithms beyond which losses are not taken for lognormal: the ends
# would be far beyond every loss, for example where some runs end at 0 but for rounding.
MOST_SPREAD = 2.0


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval [low, high], from n instances; NaN where undefined."""

    estimate: float
    low: float
    high: float
    n: int

    def shifted(self, by: float) -> Interval:
        """The interval of the quantity plus `by`."""
        return Interval(self.estimate + by, self.low + by, self.high + by, self.n)

    def negated(self) -> Interval:
        """The interval of the negative quantity."""
        return Interval(-self.estimate, -self.high, -self.low, self.n)

    def inverted(self) -> Interval:
        """The interval of 1 / quantity, which is not negative."""
        with np.errstate(divide="ignore"):
            estimate, low, high = 1 / np.array([self.estimate, self.high, self.low])
        return Interval(float(estimate), float(low), float(high), self.n)


def mean_interval(values: Floats) -> Interval:
    """Mean of the finite ones of `values` [n]."""
    return _interval(values[np.isfinite(values)][:, None], _mean)


def mean_loss(losses: Floats) -> Interval:
    """Mean of the finite ones of `losses` [n].

    The interval of fewer than `FEW` losses, all above 0, also allows for a lognormal distribution.
    """
    finite = losses[np.isfinite(losses)]
    found = mean_interval(finite)
    is_exact = not found.low < found.high
    if is_exact or found.n >= FEW or (finite <= 0).any() or np.log(finite).std() > MOST_SPREAD:
        return found
    low, high = lognormal_ends(finite)
    return replace(found, low=min(found.low, low), high=max(found.high, high))


def paired_difference(lower: Floats, higher: Floats, tail: float = TAIL) -> Interval:
    """Mean of lower − higher over paired instances [n], where `lower` is claimed to be below.

    Its interval has the probability `tail` beyond each end.
    """
    kept = np.isfinite(lower) & np.isfinite(higher)
    differences = lower[kept] - higher[kept]
    return _compared(lower, higher, differences[:, None], _mean, tail)


def ratio_of_means(lower: Floats, higher: Floats, tail: float = TAIL) -> Interval:
    """Mean of `lower` over mean of `higher`, over paired instances [n]; both must be above 0.

    Its interval has the probability `tail` beyond each end. It is that of the logarithm, whose
    distribution is nearer to symmetric, and is NaN where a mean may be 0 or less.
    """
    kept = np.isfinite(lower) & np.isfinite(higher)
    pairs = np.stack([lower[kept], higher[kept]], axis=1)
    found = _compared(lower, higher, pairs, _log_ratio, tail)
    with np.errstate(over="ignore"):
        estimate, low, high = np.exp([found.estimate, found.low, found.high])
    return Interval(float(estimate), float(low), float(high), found.n)


def highest_of(quantities: Callable[[float], Sequence[Interval]]) -> tuple[Interval, int]:
    """The highest of several quantities, all of which are claimed to be below a number.

    Which one is highest is seen from these runs, so the low end holds for all at once (Bonferroni).
    The high end is the highest of all, as it is: the claim holds if it holds for each.

    Args:
        quantities: all of them, for a probability beyond each end.

    Returns:
        The highest, and its place: that of the highest estimate, or of the first that is NaN.
    """
    plain = quantities(TAIL)
    careful = quantities(TAIL / len(plain))
    highest = int(np.argmax([each.estimate for each in plain]))
    low = float(np.max([each.low for each in careful]))
    high = float(np.max([each.high for each in plain]))
    return replace(plain[highest], low=low, high=high), highest


def spread_of_means(samples: Floats) -> Interval:
    """Highest over lowest of the k means of paired `samples` [n, k].

    A run that diverged makes the spread infinite.
    """
    finite = np.asarray(np.isfinite(samples).all(axis=1))
    kept = np.where(finite[:, None], samples, np.inf)
    pairs = list(itertools.permutations(kept.T, 2))
    return highest_of(lambda tail: [ratio_of_means(*pair, tail) for pair in pairs])[0]


def mean_band(losses: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and bootstrap band [T] of `losses` [n, T], all finite, resampling whole runs.

    The band goes from the 2.5th to the 97.5th percentile. It is narrower than a 95 % interval.
    """
    n = len(losses)
    # Resampling is a weighting of the runs, so that all steps together are one matrix product.
    counts = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=BAND_RESAMPLES)
    means = counts @ losses / n
    low, high = np.quantile(means, [TAIL, 1 - TAIL], axis=0)
    return losses.mean(axis=0), low, high


def _mean(means: Floats) -> tuple[Floats, Floats]:
    return means[..., 0], np.ones_like(means)


def _log_ratio(means: Floats) -> tuple[Floats, Floats]:
    positive = np.where(means > 0, means, np.nan)
    over, under = positive[..., 0], positive[..., 1]
    return np.log(over) - np.log(under), np.stack([1 / over, -1 / under], axis=-1)


def _compared(
    lower: Floats, higher: Floats, samples: Floats, statistic: Statistic, tail: float
) -> Interval:
    """Of `statistic` of the means of `samples`, which come from the pairs that are finite."""
    finite = np.isfinite(lower)
    lost = int((~finite).sum())
    if finite.any() and not np.isfinite(higher).any():
        end = np.inf if lost else -np.inf
        return Interval(end, -np.inf, end, len(lower))
    return replace(_interval(samples, statistic, lost, tail), n=len(lower))


def _interval(samples: Floats, statistic: Statistic, lost: int = 0, tail: float = TAIL) -> Interval:
    """Of `statistic` of the means of `samples` [n, k]; `lost` further rows make it infinite."""
    n = len(samples)
    if lost:
        low = _low_end_with_losses(samples, statistic, lost, tail)
        return Interval(np.inf, low, np.inf, n + lost)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(samples.mean(axis=0))[0])
    if n == 1:
        return Interval(estimate, np.nan, np.nan, 1)
    if (samples == samples[0]).all():
        return Interval(estimate, estimate, estimate, n)
    low, high = interval_ends(samples, statistic, tail)
    return Interval(estimate, low, high, n)


def _low_end_with_losses(samples: Floats, statistic: Statistic, lost: int, tail: float) -> float:
    """The interval's low end where `lost` rows count as infinite; the high end is infinite."""
    n = len(samples)
    if n == 0:
        return np.inf
    draws = np.random.default_rng(SEED).integers(0, n + lost, size=(RESAMPLES, n + lost))
    clean = draws[(draws < n).all(axis=1)]
    values = np.full(RESAMPLES, np.inf)
    if len(clean):
        values[: len(clean)] = statistic(samples[clean].mean(axis=1))[0]
    # No interpolation, which between a number and infinity has no value.
    return float(np.quantile(values, tail, method="inverted_cdf"))
