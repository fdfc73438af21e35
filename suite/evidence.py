"""What a claim's test sees, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from suite.curves import Runs, RunTable
from suite.definitions import ExperimentInfo, PanelInfo
from suite.errors import SuiteError
from suite.final import paper_loss
from suite.formatting import number
from suite.registry import nearest
from suite.statistics import Interval
from suite.trace_tables import Traces, no_traces

Verdict = Literal["reproduced", "contradicted", "inconclusive", "unchecked"]
# One number for each run, indexed by instance; lower is better.
Score = Callable[[Runs, PanelInfo], pd.Series]

SMALLEST_LOSS = 1e-12  # keeps the logarithm of a loss of exactly 0 finite


class MissingRunsError(Exception):
    """Runs that a claim is about are not in the curves; the text says which."""


@dataclass(frozen=True)
class Outcome:
    """A verdict with the quantity it rests on and a sentence for the reader."""

    verdict: Verdict
    interval: Interval
    note: str


@dataclass(frozen=True)
class Evidence:
    """One experiment's runs, and the traces of its panels."""

    experiment: ExperimentInfo
    runs: RunTable
    traces: Traces = field(default_factory=no_traces)

    def panel(self, name: str) -> PanelInfo:
        """The panel called `name`.

        Raises:
            SuiteError: the experiment has none.
        """
        panel = self.experiment.panel(name)
        if panel is None:
            hint = nearest(name, [p.name for p in self.experiment.panels])
            raise SuiteError(f"experiment {self.experiment.name}: no panel {name!r}: {hint}")
        return panel

    def grid(self, name: str) -> list[PanelInfo]:
        """The panels of the grid called `name`.

        Raises:
            SuiteError: the experiment has none.
        """
        panels = [panel for panel in self.experiment.panels if panel.grid == name]
        if not panels:
            hint = nearest(name, {p.grid for p in self.experiment.panels if p.grid})
            raise SuiteError(f"experiment {self.experiment.name}: no grid {name!r}: {hint}")
        return panels

    def baselines(self, panel: str, optimizer: str, named: Sequence[str] = ()) -> list[str]:
        """The `named` ones, or else the panel's other optimizers except those that are learned.

        Learned optimizers are known by having no tuned learning rate in the curves.

        Raises:
            MissingRunsError: there is none.
        """
        if named:
            return list(named)
        found = []
        for other in self.panel(panel).optimizers:
            runs = self.runs.get((self.experiment.name, panel, other))
            if other != optimizer and (runs is None or np.isfinite(runs.learning_rate)):
                found.append(other)
        if not found:
            raise MissingRunsError(f"no baselines beside {optimizer} in panel {panel}")
        return found

    def scores(self, panel: str, optimizers: Sequence[str], score: Score) -> pd.DataFrame:
        """`score` of each run: a row an instance that all ran, a column an optimizer.

        Raises:
            MissingRunsError: an optimizer was not run on this panel, or not to its end.
        """
        info = self.panel(panel)
        columns = {}
        for optimizer in optimizers:
            runs = self.runs.get((self.experiment.name, panel, optimizer))
            found = score(runs, info) if runs is not None else pd.Series(dtype=float)
            if not len(found):
                raise MissingRunsError(
                    f"no runs of {optimizer} to step {info.steps} in panel {panel}"
                )
            columns[optimizer] = found
        table = pd.concat(columns, axis=1, join="inner")
        if table.empty:
            raise MissingRunsError(
                f"no instance in panel {panel} on which {', '.join(optimizers)} all ran"
            )
        return table

    def curves(self, panel: str, optimizer: str) -> pd.DataFrame:
        """Losses of an optimizer's runs: a row an instance, a column a step.

        Raises:
            MissingRunsError: it was not run on this panel, or not to its end.
        """
        info = self.panel(panel)
        runs = self.runs.get((self.experiment.name, panel, optimizer))
        if runs is None or info.steps not in runs.steps:
            raise MissingRunsError(f"no runs of {optimizer} to step {info.steps} in panel {panel}")
        return pd.DataFrame(runs.loss, index=runs.instances, columns=runs.steps)

    def in_the_paper(self, panel: str, optimizers: Sequence[str]) -> str:
        """A clause with the paper's final losses of `optimizers`, empty where it shows none."""
        info = self.panel(panel)
        losses = {name: paper_loss(info, name) for name in optimizers}
        known = [f"{name} {number(loss)}" for name, loss in losses.items() if np.isfinite(loss)]
        return f"; in the paper {', '.join(known)}" if known else ""


def final_loss(runs: Runs, panel: PanelInfo) -> pd.Series:
    """Score: the loss after the panel's last step."""
    return runs.after(panel.steps)


def log_area(runs: Runs, panel: PanelInfo) -> pd.Series:
    """Score: the mean over the shown steps of log10 of the loss."""
    # θ_0 is the same for all; and without the last step there is no whole run to speak of.
    shown = (runs.steps > panel.first_shown) & (runs.steps <= panel.steps)
    if panel.steps not in runs.steps:
        return pd.Series(dtype=float)
    return mean_log(runs, shown)


def mean_log(runs: Runs, shown: NDArray[np.bool_]) -> pd.Series:
    """The mean log10 of the loss over the steps that are `shown` [T], indexed by instance."""
    logs = np.log10(np.maximum(runs.loss[:, shown], SMALLEST_LOSS))
    return pd.Series(logs.mean(axis=1), index=runs.instances)


def loss_sum(runs: Runs, panel: PanelInfo, until: float) -> pd.Series:
    """Score: the sum of the losses before each of the panel's first updates (equation 3)."""
    if panel.steps not in runs.steps:
        return pd.Series(dtype=float)
    summed = runs.steps < min(until, panel.steps)
    return pd.Series(runs.loss[:, summed].sum(axis=1), index=runs.instances)


def finite_mean(values: pd.Series) -> float:
    """Mean of the runs that did not diverge; NaN if all did."""
    return float(values[np.isfinite(values)].mean())


def judge(interval: Interval, threshold: float) -> Verdict:
    """The verdict on "the quantity is below `threshold`"."""
    if interval.high < threshold:
        return "reproduced"
    if interval.low > threshold:
        return "contradicted"
    return "inconclusive"


def judge_above(interval: Interval, threshold: float) -> Verdict:
    """The verdict on "the quantity is above `threshold`"."""
    return judge(interval.negated(), -threshold)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim that needs all of several things."""
    order: tuple[Verdict, ...] = ("reproduced", "inconclusive", "contradicted")
    return max(verdicts, key=order.index)


def divergence(losses: pd.DataFrame, lower: Sequence[str], higher: Sequence[str] = ()) -> str:
    """A clause on runs that diverged, of the optimizers claimed to be lower and of the others."""
    clauses = []
    for names, effect in ((lower, "counted against the claim"), (higher, "left out")):
        for name in names:
            count = int((~np.isfinite(losses[name])).sum())
            if count:
                clauses.append(f"; {name} diverged on {count} of {len(losses)}, {effect}")
    return "".join(clauses)
