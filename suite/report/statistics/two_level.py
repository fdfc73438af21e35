"""Intervals that hold for other trainings as well as for other test instances.

Several trainings of one recipe are evaluated on the same instances. Both the trainings and the
instances are samples, so the bootstrap resamples both levels. As in
`suite.report.statistics.bootstrap`, each end of an interval is the farthest of three: t with
Satterthwaite's degrees of freedom, and the equal-tailed and the symmetric bootstrap of t.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from l2l.suite.report.statistics.bootstrap import RESAMPLES, SEED, TAIL, Floats, reach_of
from l2l.suite.report.statistics.intervals import Interval, paired_difference

FEWEST_TRAININGS = 3
BATCH_VALUES = 2**18


def difference_over_trainings(
    ours: Floats, other: Floats, tail: float = TAIL, above: bool = False
) -> Interval:
    """Mean of ours − other, where `ours` [trainings, n] is claimed to be below `other` [n].

    If it is claimed to be `above`, of other − ours. So the difference is claimed to be below 0, and
    divergence counts as in `paired_difference`: on the lower side it makes the mean infinite, and
    an instance on which any of the higher side diverged is left out. Of two trainings the ends are
    NaN, of one they hold for other instances alone.

    Args:
        ours: final losses of each training's optimizer on each instance.
        other: those of another optimizer on the same instances, or numbers.
        tail: the probability beyond each end.
        above: whether `ours` is claimed to be above.
    """
    mean = ours.mean(axis=0)
    lower, higher = (other, mean) if above else (mean, other)
    kept = np.isfinite(higher)
    if len(ours) == 1 or not np.isfinite(lower).all() or not kept.any():
        # Too few trainings to tell how often one diverges: as if they were one.
        return paired_difference(lower, higher, tail)
    differences = (ours[:, kept] - other[kept]) * (-1 if above else 1)
    found = _over_both(differences, tail)
    return replace(found, n=len(other))


def _over_both(differences: Floats, tail: float) -> Interval:
    """The mean of a table with a row a training and a column an instance."""
    trainings, n = differences.shape
    estimate = float(differences.mean())
    if trainings < FEWEST_TRAININGS or n < 2:
        return Interval(estimate, np.nan, np.nan, n)
    variance, freedom = _variance(differences[None])
    error = np.sqrt(variance[0])
    if error == 0:
        return Interval(estimate, estimate, estimate, n)
    below, above = reach_of(_resampled_t(differences), freedom[0], tail)
    return Interval(estimate, float(estimate - above * error), float(estimate - below * error), n)


def _resampled_t(differences: Floats) -> Floats:
    """Of each resample of rows and columns, the distance from the mean in standard errors."""
    trainings, n = differences.shape
    rng = np.random.default_rng(SEED)
    batch = max(1, BATCH_VALUES // differences.size)
    found = []
    for first in range(0, RESAMPLES, batch):
        some = min(batch, RESAMPLES - first)
        rows = rng.integers(trainings, size=(some, trainings, 1))
        columns = rng.integers(n, size=(some, 1, n))
        resamples = differences[rows, columns]
        distance = resamples.mean(axis=(1, 2)) - differences.mean()
        error = np.sqrt(_variance(resamples)[0])
        far = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
        found.append(np.divide(distance, error, out=far, where=error > 0))
    return np.concatenate(found)


def _variance(tables: Floats) -> tuple[Floats, Floats]:
    """The variance of each table's mean, and its degrees of freedom.

    Args:
        tables: [m, trainings, n]; each is a sum of a training's, an instance's and their own part.
    """
    _, rows, columns = tables.shape
    mean = tables.mean(axis=(1, 2), keepdims=True)
    by_row, by_column = tables.mean(axis=2, keepdims=True), tables.mean(axis=1, keepdims=True)
    rest = tables - by_row - by_column + mean
    freedom = np.array([rows - 1, columns - 1, (rows - 1) * (columns - 1)])
    training = columns * ((by_row - mean) ** 2).sum(axis=(1, 2)) / freedom[0]
    instance = rows * ((by_column - mean) ** 2).sum(axis=(1, 2)) / freedom[1]
    own = (rest**2).sum(axis=(1, 2)) / freedom[2]
    # Where a level adds nothing, chance may make its mean square the smaller one.
    training, instance = np.maximum(training, own), np.maximum(instance, own)
    summed = training + instance - own
    used = np.stack([training, instance, own])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = summed**2 / (used**2 / freedom[:, None]).sum(axis=0)
    return summed / (rows * columns), found
