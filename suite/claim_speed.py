"""Claim tests on how fast an optimizer learns (section 3.3, Figure 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.claim_tests import EndsBelowAll, against_best, register_claim_test
from suite.curves import Runs
from suite.definitions import PanelInfo
from suite.evidence import Evidence, Outcome, finite_mean, judge, mean_log, worst
from suite.formatting import number
from suite.statistics import Floats


@register_claim_test("learns_faster")
@dataclass(frozen=True)
class LearnsFaster:
    """The optimizer's loss over the first updates is below that of every baseline.

    Estimate: paired mean difference of the mean log10 loss over the first `until` updates,
    optimizer minus the baseline that is best by it; claimed below 0. The note adds how soon the
    mean curve is where that baseline's is after `until` updates.
    """

    panel: str
    optimizer: str
    until: float
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the early losses with the best baseline's."""
        interval, best, scores = against_best(self, evidence, self._early)
        note = (
            f"mean log10 loss of the first {self.until:.0f} updates, {self.optimizer} "
            f"{number(finite_mean(scores[self.optimizer]))} minus best baseline {best} "
            f"{number(finite_mean(scores[best]))}; {self._how_soon(evidence, best)}"
        )
        return Outcome(judge(interval, 0.0), interval, note)

    def _early(self, runs: Runs, panel: PanelInfo) -> pd.Series:
        if panel.steps not in runs.steps:
            return pd.Series(dtype=float)
        shown = (runs.steps >= 1) & (runs.steps <= self.until)
        return mean_log(runs, shown)

    def _how_soon(self, evidence: Evidence, baseline: str) -> str:
        """After how many updates the mean loss, over a tenth of the steps, is the baseline's."""
        key = (evidence.experiment.name, self.panel)
        ours, theirs = (_smooth(evidence.runs[*key, each]) for each in (self.optimizer, baseline))
        last = min(int(self.until), len(theirs) - 1)
        there = np.flatnonzero(ours <= theirs[last])
        soon = f"after {there[0]}" if len(there) else "never"
        return (
            f"where {baseline} is after {last} updates, {number(theirs[last])}, "
            f"{self.optimizer} is {soon}"
        )


@register_claim_test("learns_faster_and_ends_below")
@dataclass(frozen=True)
class LearnsFasterAndEndsBelow:
    """As `learns_faster`, and in the end the optimizer is below the best baseline as well.

    Estimate: that of `learns_faster`; the verdict is the worse of the two, and the note tells both.
    """

    panel: str
    optimizer: str
    until: float
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare early losses, then final ones."""
        given = (self.panel, self.optimizer)
        early = LearnsFaster(*given, self.until, self.baselines).check(evidence)
        end = EndsBelowAll(*given, self.baselines).check(evidence)
        verdict = worst((early.verdict, end.verdict))
        note = f"{early.note} ({early.verdict}); at the end, {end.note} ({end.verdict})"
        return Outcome(verdict, early.interval, note)


def _smooth(runs: Runs) -> Floats:
    """The mean curve [T], averaged over the steps around each: minibatches differ."""
    mean = runs.loss[runs.finished()].mean(axis=0)
    around = max(1, len(mean) // 40)
    smooth = pd.Series(mean).rolling(2 * around + 1, center=True, min_periods=1).mean()
    return np.asarray(smooth)
