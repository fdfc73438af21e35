"""Means, differences and ratios over test instances, with 95 % bootstrap intervals.

A run that diverged has a loss that is not finite. It is left out of plain means. In comparisons
there is a side that a claim holds to be lower: a diverged run there makes the mean infinite, as it
is, in every resample that has the run; a diverged run on the other side is left out, which never
favours the claim.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

Floats = NDArray[np.float64]
# Samples [..., n] for each of k columns, reduced over the last axis.
Statistic = Callable[..., Floats]

CONFIDENCE = 0.95
RESAMPLES = 4999
BAND_RESAMPLES = 1000
SEED = 20160614  # any fixed number: the same curves give the same report


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval [low, high], from n instances; NaN where undefined."""

    estimate: float
    low: float
    high: float
    n: int

    def negated(self) -> Interval:
        """The interval of the negative quantity."""
        return Interval(-self.estimate, -self.high, -self.low, self.n)


def mean_interval(values: Floats) -> Interval:
    """Mean of the finite ones of `values` [n]."""
    return _interval(values[np.isfinite(values)][:, None], lambda x, axis: x.mean(axis=axis))


def paired_difference(lower: Floats, higher: Floats) -> Interval:
    """Mean of lower − higher over paired instances [n], where `lower` is claimed to be below."""
    keep, lost = _divergence(lower, higher)
    if not keep.any() and not lost and np.isfinite(lower).any():
        # Every run on the other side diverged: below by any amount.
        return Interval(-np.inf, -np.inf, -np.inf, int(np.isfinite(lower).sum()))
    differences = lower[keep] - higher[keep]
    return _interval(differences[:, None], lambda x, axis: x.mean(axis=axis), lost)


def ratio_of_means(lower: Floats, higher: Floats) -> Interval:
    """Mean of `lower` over mean of `higher`, over paired instances [n]."""
    keep, lost = _divergence(lower, higher)
    pairs = np.stack([lower[keep], higher[keep]], axis=1)
    return _interval(pairs, lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis), lost)


def spread_of_means(samples: Floats) -> Interval:
    """Highest over lowest of the k means of paired `samples` [n, k]; no run may diverge."""
    finite = np.isfinite(samples).all(axis=1)

    def spread(*columns: Floats, axis: int) -> Floats:
        means = np.stack([column.mean(axis=axis) for column in columns])
        return np.asarray(means.max(axis=0) / means.min(axis=0))

    return _interval(samples[finite], spread, lost=int((~finite).sum()))


def mean_band(losses: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and percentile band [T] of `losses` [n, T], all finite, resampling whole runs."""
    n = len(losses)
    # Resampling is a weighting of the runs, so that all steps together are one matrix product.
    counts = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=BAND_RESAMPLES)
    means = counts @ losses / n
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return losses.mean(axis=0), low, high


def _divergence(lower: Floats, higher: Floats) -> tuple[NDArray[np.bool_], int]:
    """Which pairs are compared, and how many are lost because `lower` diverged."""
    finite = np.isfinite(lower)
    return finite & np.isfinite(higher), int((~finite).sum())


def _interval(samples: Floats, statistic: Statistic, lost: int = 0) -> Interval:
    """Bootstrap of `statistic` over rows of `samples` [n, k]; `lost` rows make it infinite."""
    n = len(samples)
    columns = tuple(samples.T)
    if lost:
        return Interval(np.inf, _low_end_with_losses(samples, statistic, lost), np.inf, n + lost)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(*columns, axis=-1))
    if n == 1:
        return Interval(estimate, np.nan, np.nan, 1)
    if (samples == samples[0]).all():
        return Interval(estimate, estimate, estimate, n)
    for method in ("BCa", "percentile"):  # BCa is undefined where a jackknife value repeats
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)
            found = bootstrap(
                columns,
                statistic,
                n_resamples=RESAMPLES,
                batch=1000,
                paired=True,
                vectorized=True,
                confidence_level=CONFIDENCE,
                method=method,
                rng=np.random.default_rng(SEED),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            break
    return Interval(estimate, float(found.low), float(found.high), n)


def _low_end_with_losses(samples: Floats, statistic: Statistic, lost: int) -> float:
    """The interval's low end where `lost` rows count as infinite; the high end is infinite."""
    n = len(samples)
    if n == 0:
        return np.inf
    draws = np.random.default_rng(SEED).integers(0, n + lost, size=(RESAMPLES, n + lost))
    clean = draws[(draws < n).all(axis=1)]
    values = np.full(RESAMPLES, np.inf)
    if len(clean):
        values[: len(clean)] = statistic(*(column[clean] for column in samples.T), axis=-1)
    # No interpolation, which between a number and infinity has no value.
    return float(np.quantile(values, (1 - CONFIDENCE) / 2, method="inverted_cdf"))
