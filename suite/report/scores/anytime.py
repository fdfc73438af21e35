"""How far the runs of a benchmark's panel are after each number of updates.

The loss "after t updates" is everywhere the final loss of a run that ends there: the mean over the
last tenth of its first t updates. So curves are smoothed in proportion to t, and an optimizer that
is k times as fast has exactly the curve of the other, stretched by k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2l.suite.core.errors import SuiteError
from l2l.suite.report.statistics.intervals import Floats


@dataclass(frozen=True)
class Course:
    """The losses [n, T] of n runs after `steps` [T] updates; a run never counts as worse than θ_0.

    A run that diverged, or is above its first loss, counts with its first loss: as if it had not
    been begun. So one run that blows up costs a mean what it should, and no more.
    """

    instances: NDArray[np.int64]
    steps: Floats
    loss: Floats

    def means(self, weights: Floats) -> Floats:
        """Mean losses [B, T] for weights of the runs [B, n], each of which sums to 1."""
        return np.asarray(weights @ self.loss)


def courses_by_optimizer(anytime: pd.DataFrame) -> dict[tuple[str, str, str], Course]:
    """The courses in `anytime.parquet`.

    Raises:
        SuiteError: an optimizer has not one loss for each of its instances and steps.
    """
    found = {}
    for key, rows in anytime.groupby(["experiment", "panel", "optimizer"], observed=True):
        experiment, panel, optimizer = (str(part) for part in key)
        table = rows.set_index(["instance", "step"])["loss"]
        if table.index.has_duplicates or table.unstack().isna().to_numpy().any():
            raise SuiteError(
                f"anytime: {experiment}, panel {panel!r}, {optimizer!r} must have one loss for "
                "each instance and step; run the experiment again"
            )
        found[experiment, panel, optimizer] = course_of(table.unstack())
    return found


def course_of(losses: pd.DataFrame) -> Course:
    """From losses with a row an instance and a column a step, of which 0 is one."""
    losses = losses.sort_index().sort_index(axis=1)
    loss = losses.to_numpy(np.float64)
    first = loss[:, :1]
    kept = np.where(np.isfinite(loss), np.minimum(loss, first), first)
    return Course(losses.index.to_numpy(), losses.columns.to_numpy(np.float64), kept)


def envelope(means: Floats) -> Floats:
    """The lowest loss [B, T] so far."""
    return np.minimum.accumulate(means, axis=-1)


def loss_at(steps: Floats, means: Floats, when: float) -> Floats:
    """The losses [B] after `when` updates, between recorded ones on a straight line."""
    after = int(np.searchsorted(steps, when))
    if steps[after] == when:
        return means[..., after]
    share = (when - steps[after - 1]) / (steps[after] - steps[after - 1])
    return np.asarray((1 - share) * means[..., after - 1] + share * means[..., after])


def reached(steps: Floats, lowest: Floats, targets: Floats) -> Floats:
    """After how many updates [B] the loss is at most `targets` [B]; infinite where it never is.

    Args:
        steps: [T], from 0.
        lowest: an `envelope` [B, T]; between steps it is a straight line.
        targets: [B].
    """
    below = lowest <= targets[:, None]
    first = below.argmax(axis=1)
    row = np.arange(len(lowest))
    before = np.maximum(first - 1, 0)
    low, high = lowest[row, first], lowest[row, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (high - targets) / (high - low), 0.0)
    when = steps[before] + share * (steps[first] - steps[before])
    return np.where(below.any(axis=1), when, np.inf)
