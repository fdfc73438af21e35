"""Scores: one number for each run, which claims and final losses are computed from.

They are taken while every step of every run is at hand, and stored (`scores.parquet`), so that what
a results folder keeps of the curves themselves may be thin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.inner.evaluate import final_steps
from l2l.suite.inner.trace_tables import Traces, no_traces
from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.runs import Runs

SMALLEST_LOSS = 1e-12  # keeps the logarithm of a loss of exactly 0 finite


@dataclass(frozen=True)
class Recorded:
    """All that the finished cells of one panel recorded: runs by optimizer, and traces.

    `held_out` has the held-out losses of the runs, where the problem has held-out data.
    """

    panel: PanelInfo
    runs: Mapping[str, Runs]
    traces: Traces = field(default_factory=no_traces)
    held_out: Mapping[str, Runs] = field(default_factory=dict)

    def whole(self, optimizer: str) -> Runs | None:
        """The runs of `optimizer` if they reach the panel's last step, or None."""
        found = self.runs.get(optimizer)
        return found if found is not None and self.panel.steps in found.steps else None


class Score(Protocol):
    """One number for each run of an optimizer; `name` identifies it within a panel."""

    @property
    def name(self) -> str:
        """As it stands in `scores.parquet`."""
        ...

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        """The score of each run, indexed by instance; empty where what it needs was not run."""
        ...


# Scores of one name, indexed by instance, by (experiment, panel, optimizer, name).
ScoreTable = Mapping[tuple[str, str, str, str], pd.Series]


@dataclass(frozen=True)
class MeanLoss:
    """The mean of the losses, or of their log10, at the steps from `first` to `last`, included.

    There is none of the log10 where a loss is negative.
    """

    first: int
    last: int
    log: bool = False

    @property
    def name(self) -> str:
        return f"mean {'log10 ' if self.log else ''}loss, steps {self.first} to {self.last}"

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        runs = recorded.whole(optimizer)
        if runs is None:
            return nothing()
        losses = runs.between(self.first, self.last)
        if self.log:
            if (losses < 0).any():
                return nothing()
            losses = np.log10(np.maximum(losses, SMALLEST_LOSS))
        return pd.Series(losses.mean(axis=1), index=runs.instances)


@dataclass(frozen=True)
class HeldOut:
    """The mean loss over held-out data, where the run ends."""

    name: str = field(default="held-out loss", init=False)

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        runs = recorded.held_out.get(optimizer)
        return nothing() if runs is None else pd.Series(runs.loss[:, -1], index=runs.instances)


@dataclass(frozen=True)
class LargestGap:
    """The largest distance over a run from the curve of `than`, as a part of the loss at θ_0.

    `stride` updates are compared with each one of the other's. It is infinite where either
    diverged.
    """

    than: str
    stride: float

    @property
    def name(self) -> str:
        return f"largest gap to {self.than}, stride {self.stride:g}"

    def of(self, recorded: Recorded, optimizer: str) -> pd.Series:
        ours, theirs = recorded.whole(optimizer), recorded.whole(self.than)
        if ours is None or theirs is None:
            return nothing()
        own, other = (
            pd.DataFrame(r.loss, index=r.instances, columns=r.steps) for r in (ours, theirs)
        )
        steps = [step for step in other if step * self.stride in own]
        if len(steps) < 2:
            return nothing()
        instances = own.index.intersection(other.index)
        followed = other.loc[instances, steps]
        with np.errstate(invalid="ignore"):
            apart = own.loc[instances, [step * self.stride for step in steps]] - followed.to_numpy()
        # Where both diverged, how far they are apart cannot be said.
        return apart.abs().max(axis=1, skipna=False).fillna(np.inf) / followed[0].abs()


def last_tenth(steps: int) -> MeanLoss:
    """The final loss of runs of `steps` updates; see `final_steps`."""
    final = final_steps(steps)
    return MeanLoss(final.start, final[-1])


def nothing() -> pd.Series:
    """The scores of no runs."""
    return pd.Series(dtype=float)


def scores_by_run(table: pd.DataFrame) -> dict[tuple[str, str, str, str], pd.Series]:
    """The scores of `scores.parquet`, infinite where they are not finite.

    Raises:
        SuiteError: a run has more than one score of a name.
    """
    scores = {}
    for key, rows in table.groupby(["experiment", "panel", "optimizer", "score"], observed=True):
        experiment, panel, optimizer, name = (str(part) for part in key)
        values = rows.set_index("instance")["value"].astype(np.float64)
        if values.index.has_duplicates:
            raise SuiteError(
                f"scores: {experiment}, panel {panel!r}, {optimizer!r} has more than one "
                f"{name!r} for an instance; there must be one"
            )
        scores[experiment, panel, optimizer, name] = values.where(np.isfinite(values), np.inf)
    return scores
