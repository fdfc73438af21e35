"""Confidence intervals for functions of means, that hold for skewed samples as well.

Losses are skewed: a few hard instances decide their mean. The bootstrap of Student's t (Efron and
Tibshirani, "An Introduction to the Bootstrap", chapter 12) learns from the sample how far the
skewness moves the estimate in units of its standard error. On symmetric samples, and on few runs,
the plain t distribution does better. Neither holds its level on all samples, so each end of an
interval here is the farthest of three: Student's t, and the equal-tailed and the symmetric
bootstrap of t. A few losses often lack the large ones that decide a skewed distribution's mean,
and then all three end too low: `lognormal_ends` supposes them. `docs/results.md` has the coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # not scipy.stats: that takes a second to import

Floats = NDArray[np.float64]
# From means [..., k] to the value [...] and its gradient [..., k].
Statistic = Callable[[Floats], tuple[Floats, Floats]]

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
RESAMPLES = 4999
SEED = 20160614  # any fixed number: the same runs give the same report
# Resamples of fewer runs are too often of one run alone, which has no standard error.
FEWEST_RESAMPLED = 8
BATCH_VALUES = 2**21


def interval_ends(samples: Floats, statistic: Statistic, tail: float = TAIL) -> tuple[float, float]:
    """The ends of the interval of `statistic` of the means of `samples` [n, k], n at least 2.

    An end is infinite where resamples of one repeated row are too many to tell. Both are NaN where
    the statistic is undefined at the means of a resample.

    Args:
        samples: rows are independent; columns of a row may depend on each other.
        statistic: a function of the k means.
        tail: the probability beyond each end.
    """
    n = len(samples)
    centre = samples.mean(axis=0)
    centred = samples - centre
    estimate, gradient = statistic(centre)
    error = np.sqrt(_variance(gradient, np.atleast_2d(np.cov(centred.T)), n))
    if error == 0:
        return float(estimate), float(estimate)
    t = _resampled_t(centred, centre, statistic) if n >= FEWEST_RESAMPLED else np.zeros(1)
    if np.isnan(t).any():
        return np.nan, np.nan
    below, above = reach_of(t, n - 1, tail)
    return float(estimate - above * error), float(estimate - below * error)


def reach_of(t: Floats, freedom: float, tail: float) -> tuple[float, float]:
    """How far an interval reaches to either side, in standard errors: the farthest of three.

    Args:
        t: how far the estimate of each resample is from that of the sample, in standard errors.
        freedom: of Student's t.
        tail: the probability beyond each end.
    """
    plain = float(stdtrit(freedom, 1 - tail))
    low, high = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    reach = max(plain, float(np.quantile(np.abs(t), 1 - 2 * tail, method="inverted_cdf")))
    return min(-reach, float(low)), max(reach, float(high))


def lognormal_ends(values: Floats, tail: float = TAIL) -> tuple[float, float]:
    """The ends of Cox's interval for the mean, if the logarithms of `values` [n] are normal.

    With Student's t in place of the normal distribution (Olsson 2005, "Confidence intervals for the
    mean of a log-normal distribution").

    Args:
        values: above 0, at least two of them.
        tail: the probability beyond each end.
    """
    logs = np.log(values)
    n, variance = len(logs), logs.var(ddof=1)
    error = np.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    reach = stdtrit(n - 1, 1 - tail) * error
    middle = logs.mean() + variance / 2
    return float(np.exp(middle - reach)), float(np.exp(middle + reach))


def _resampled_t(centred: Floats, centre: Floats, statistic: Statistic) -> Floats:
    """Of each resample, the distance from the estimate in standard errors: [RESAMPLES]."""
    n, k = centred.shape
    estimate, _ = statistic(centre)
    products = (centred[:, :, None] * centred[:, None, :]).reshape(n, k * k)
    batch = max(1, BATCH_VALUES // n)
    found = []
    for first in range(0, RESAMPLES, batch):
        weights = _weights(n, first, min(RESAMPLES, first + batch))
        means = weights @ centred
        squares = (weights @ products).reshape(-1, k, k)
        spread = (squares - means[:, :, None] * means[:, None, :]) * n / (n - 1)
        value, gradient = statistic(means + centre)
        error = np.sqrt(_variance(gradient, spread, n))
        distance = value - estimate
        # A resample of one row alone is infinitely far, unless it is where the estimate is.
        far = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
        far = np.where(np.isnan(distance), np.nan, far)
        found.append(np.divide(distance, error, out=far, where=error > 0))
    return np.concatenate(found)


@lru_cache(maxsize=4)  # panel after panel has as many runs
def _weights(n: int, first: int, end: int) -> Floats:
    """The weight of each row in the resamples from `first` to `end`: [end − first, n]."""
    rng = np.random.default_rng([SEED, first])
    return rng.multinomial(n, np.full(n, 1 / n), size=end - first) / n


def _variance(gradient: Floats, covariance: Floats, n: int) -> Floats:
    """The variance of a function of means, to first order."""
    found = np.einsum("...i,...ij,...j->...", gradient, covariance, gradient) / n
    # Rounding may put what is 0 below it, such as where one column is a multiple of another.
    return np.asarray(np.maximum(found, 0.0))
