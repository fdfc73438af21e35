"""What a claim's test sees, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo
from l2l.suite.report.curves import Curve, CurveTable
from l2l.suite.report.final import paper_loss
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import MeanLoss, Score, ScoreTable, last_tenth
from l2l.suite.report.statistics.intervals import Interval

Verdict = Literal["reproduced", "contradicted", "inconclusive", "unchecked"]


class MissingRunsError(Exception):
    """Runs that a claim is about are not in the curves; the text says which."""


@dataclass(frozen=True)
class Outcome:
    """A verdict with the quantity it rests on and a sentence for the reader.

    `reason` says in some words why a verdict is not a plain one, such as too few runs.
    """

    verdict: Verdict
    interval: Interval
    note: str
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """One experiment's mean curves, and the scores of its runs."""

    experiment: ExperimentInfo
    curves: CurveTable
    known: ScoreTable

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

    def baselines(
        self, panel: str, optimizers: Sequence[str], named: Sequence[str] = ()
    ) -> list[str]:
        """The `named` ones, or else the panel's other optimizers except those that are learned.

        Raises:
            MissingRunsError: there is none.
        """
        info = self.panel(panel)
        found = list(named) or [
            other for other in info.optimizers if other not in (*optimizers, *info.learned)
        ]
        if not found:
            names = ", ".join(optimizers)
            raise MissingRunsError(f"no baselines beside {names} in panel {panel}")
        return found

    def scores(self, panel: str, optimizers: Sequence[str], score: Score) -> pd.DataFrame:
        """`score` of each run: a row an instance that all ran, a column an optimizer.

        Raises:
            MissingRunsError: an optimizer was not run on this panel, or not to its end.
        """
        columns = {}
        for optimizer in optimizers:
            place = (self.experiment.name, panel, optimizer, score.name)
            if place not in self.known:
                wanted = f"run it again, to step {self.panel(panel).steps}"
                if isinstance(score, MeanLoss) and score.log:
                    wanted += ", if its losses are not negative: these have no logarithm"
                raise MissingRunsError(f"no {score.name} of {optimizer} in panel {panel}: {wanted}")
            columns[optimizer] = self.known[place]
        table = pd.concat(columns, axis=1, join="inner")
        if table.empty:
            raise MissingRunsError(
                f"no instance in panel {panel} on which {', '.join(optimizers)} all ran"
            )
        return table

    def end(self, panel: str) -> Score:
        """The score that is a run's final loss."""
        return last_tenth(self.panel(panel).steps)

    def curve(self, panel: str, optimizer: str) -> Curve:
        """The mean curve of an optimizer.

        Raises:
            MissingRunsError: it was not run on this panel.
        """
        found = self.curves.get((self.experiment.name, panel, optimizer))
        if found is None:
            raise MissingRunsError(f"no runs of {optimizer} in panel {panel}")
        return found

    def in_the_paper(self, panel: str, optimizers: Sequence[str]) -> str:
        """A clause with the paper's final losses of `optimizers`, empty where it shows none."""
        info = self.panel(panel)
        losses = {name: paper_loss(info, name) for name in optimizers}
        known = [f"{name} {number(loss)}" for name, loss in losses.items() if np.isfinite(loss)]
        return f"; in the paper {', '.join(known)}" if known else ""


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


def turning(interval: Interval, threshold: float, above: bool = False) -> str:
    """A clause on a claim that its quantity is below `threshold`, and where its verdict turns.

    Args:
        interval: of the quantity.
        threshold: what it is claimed to be below.
        above: whether it is claimed to be above instead.
    """
    claimed, other = ("above", "below") if above else ("below", "above")
    near, far = (interval.low, interval.high) if above else (interval.high, interval.low)
    told = f"; claimed {claimed} {number(threshold)}"
    if np.isnan([near, far]).any():
        return told
    return (
        f"{told}: reproduced with any {other} {number(near)}, "
        f"contradicted with any {claimed} {number(far)}"
    )


def deciding(parts: Iterable[tuple[Verdict, Interval]]) -> tuple[Verdict, Interval]:
    """The verdict on a claim that needs all of several parts: the first of the worst ones."""
    order: tuple[Verdict, ...] = ("reproduced", "inconclusive", "contradicted")
    return max(parts, key=lambda part: order.index(part[0]))


def divergence(losses: pd.DataFrame, lower: Sequence[str], higher: Sequence[str] = ()) -> str:
    """A clause on runs that diverged, of the optimizers claimed to be lower and of the others."""
    clauses = []
    for names, effect in ((lower, "counted against the claim"), (higher, "left out")):
        for name in names:
            count = int((~np.isfinite(losses[name])).sum())
            if count:
                clauses.append(f"; {name} diverged on {count} of {len(losses)}, {effect}")
    return "".join(clauses)
