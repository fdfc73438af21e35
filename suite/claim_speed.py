"""Claim tests on how fast an optimizer learns (section 3.3, Figure 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.claim_tests import EndsBelowAll, register_claim_test
from suite.curves import Runs
from suite.definitions import PanelInfo
from suite.evidence import SMALLEST_LOSS, Evidence, Outcome, Verdict, finite_mean, judge
from suite.formatting import number
from suite.statistics import Floats, paired_difference

# From the best verdict to the worst: of two, a claim that needs both has the worse.
ORDER: tuple[Verdict, ...] = ("reproduced", "inconclusive", "contradicted")


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
        names = evidence.baselines(self.panel, self.optimizer, self.baselines)
        scores = evidence.scores(self.panel, [self.optimizer, *names], self._early)
        means = scores[names].apply(finite_mean)
        best = str(means.idxmin()) if means.notna().any() else names[0]
        interval = paired_difference(scores[self.optimizer].to_numpy(), scores[best].to_numpy())
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
        logs = np.log10(np.maximum(runs.loss[:, shown], SMALLEST_LOSS))
        return pd.Series(logs.mean(axis=1), index=runs.instances)

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
        verdict = max(early.verdict, end.verdict, key=ORDER.index)
        note = f"{early.note} ({early.verdict}); at the end, {end.note} ({end.verdict})"
        return Outcome(verdict, early.interval, note)


def _smooth(runs: Runs) -> Floats:
    """The mean curve [T], averaged over the steps around each: minibatches differ."""
    mean = runs.loss[runs.finished()].mean(axis=0)
    around = max(1, len(mean) // 40)
    smooth = pd.Series(mean).rolling(2 * around + 1, center=True, min_periods=1).mean()
    return np.asarray(smooth)
