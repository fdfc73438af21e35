"""Mean curves over test instances, with their bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2l.suite.core.errors import SuiteError
from l2l.suite.report.runs import Runs
from l2l.suite.report.statistics.intervals import Floats, mean_band


@dataclass(frozen=True)
class Curve:
    """One optimizer's mean loss in one panel, over the runs that did not diverge.

    `steps` [T] (updates done), `mean` [T], `low` and `high` [T], the ends of the bootstrap band
    (`mean_band`); NaN where every run diverged. `n` runs are in the mean, `diverged` are not.
    `learning_rate` is NaN where none was tuned.
    """

    steps: NDArray[np.int64]
    mean: Floats
    low: Floats
    high: Floats
    n: int
    diverged: int
    learning_rate: float


# The share of the updates on either side that a smoothed curve is averaged over.
WIDTH = 0.05

# Curves by (experiment, panel, optimizer).
CurveTable = Mapping[tuple[str, str, str], Curve]


def curve_of(runs: Runs) -> Curve:
    """The mean curve of `runs`."""
    finished = runs.finished()
    mean = low = high = np.full(len(runs.steps), np.nan)
    if finished.any():
        mean, low, high = mean_band(runs.loss[finished])
    n = int(finished.sum())
    return Curve(runs.steps, mean, low, high, n, len(finished) - n, runs.learning_rate)


def smoothed(losses: Floats) -> Floats:
    """Losses after 0, 1, … updates [T], each averaged over `WIDTH` of its updates on either side.

    One update's loss is that of one minibatch. Early curves, which are steep, are hardly touched.
    """
    last = len(losses) - 1
    halves = [min(round(WIDTH * step), last - step) for step in range(last + 1)]
    ends = [(step - half, step + half + 1) for step, half in enumerate(halves)]
    return np.array([losses[first:end].mean() for first, end in ends])


def curves_by_optimizer(table: pd.DataFrame) -> dict[tuple[str, str, str], Curve]:
    """The curve of each (experiment, panel, optimizer) of `curves.parquet` or `held-out.parquet`.

    Raises:
        SuiteError: an optimizer has more than one mean for a step.
    """
    curves = {}
    for key, rows in table.groupby(["experiment", "panel", "optimizer"], observed=True):
        experiment, panel, optimizer = (str(part) for part in key)
        if rows["step"].duplicated().any():
            raise SuiteError(
                f"curves: {experiment}, panel {panel!r}, {optimizer!r} has more than one mean for "
                "a step; there must be one"
            )
        ordered = rows.sort_values("step")
        mean, low, high = (ordered[name].to_numpy(np.float64) for name in ("mean", "low", "high"))
        first = ordered.iloc[0]
        curves[experiment, panel, optimizer] = Curve(
            steps=ordered["step"].to_numpy(),
            mean=mean,
            low=low,
            high=high,
            n=int(first["n"]),
            diverged=int(first["diverged"]),
            learning_rate=float(first.get("learning_rate", np.nan)),
        )
    return curves
