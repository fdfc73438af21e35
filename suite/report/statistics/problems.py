"""Means over problems, with intervals that hold for other instances and other problems.

Both are samples, so both are resampled: problems with replacement, and for each drawn one a
resample of its instances. All optimizers get the same draws, so that comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l2l.suite.report.statistics.bootstrap import SEED, TAIL, Floats
from l2l.suite.report.statistics.intervals import Interval

RESAMPLES = 1000

# From values of problems [..., p], NaN where there is none, to [...].
Mean = Callable[[Floats], Floats]


def instance_weights(n: int) -> Floats:
    """Weights of n instances [1 + RESAMPLES, n]: the first equal, the others of resamples."""
    rng = np.random.default_rng([SEED, n])
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    return np.concatenate([np.full((1, n), 1 / n), drawn])


def interquartile_mean(values: Floats) -> Floats:
    """The mean of the middle half of the values in the last axis, without those that are NaN.

    Values on the border of the middle half count with the share of them that is inside.
    """
    ordered = np.sort(values, axis=-1)  # NaN comes last
    known = (~np.isnan(ordered)).sum(axis=-1, keepdims=True)
    place = np.arange(values.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        first, last = (np.clip(each / known, 0.25, 0.75) for each in (place, place + 1))
        # An infinite value of no weight adds nothing.
        parts = np.where(last > first, 2 * (last - first) * ordered, 0.0)
    return np.where(known[..., 0] > 0, parts.sum(axis=-1), np.nan)


def plain_mean(values: Floats) -> Floats:
    """The mean of the values in the last axis, without those that are NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def resampled(values: Floats) -> Floats:
    """Draws of problems and of their instances, of the problems that have any value.

    A problem that is drawn more than once has other instances each time. With one problem, what is
    left is the draw of its instances.

    Args:
        values: [1 + RESAMPLES, p], a column a problem, a row a resample of instances.

    Returns:
        [1 + RESAMPLES, the problems with values]; the first row is that of `values`. It is the same
        draw for all `values` on the same problems.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    rows, p = values.shape
    if not p:
        return values
    rng = np.random.default_rng([SEED, rows, p])
    problems = rng.integers(p, size=(rows - 1, p))
    instances = rng.integers(1, rows, size=(rows - 1, p))
    return np.concatenate([values[:1], values[instances, problems]])


def over_problems(low: Floats, mean: Mean, high: Floats | None = None) -> Interval:
    """The mean over problems with its bootstrap interval; `n` is the number of problems.

    Args:
        low: values [1 + RESAMPLES, p], as of `resampled`; NaN in columns without any.
        mean: of problems.
        high: where `low` are lower bounds alone, infinite; else the same. Then the high end is
            infinite if the bounds matter to it.
    """
    n = int((~np.isnan(low[0])).sum())
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    lows = mean(resampled(low))
    highs = lows if high is None else mean(resampled(high))
    return interval_of(lows, highs, n)


def interval_of(lows: Floats, highs: Floats, n: int) -> Interval:
    """The first of `lows` as an estimate, with percentiles of the others and of those of `highs`.

    No interpolation, which between a number and infinity has no value.
    """
    low, high = lows[1:][~np.isnan(lows[1:])], highs[1:][~np.isnan(highs[1:])]
    if not len(low):
        return Interval(float(lows[0]), np.nan, np.nan, n)
    return Interval(
        float(lows[0]),
        float(np.quantile(low, TAIL, method="inverted_cdf")),
        float(np.quantile(high, 1 - TAIL, method="inverted_cdf")),
        n,
    )
