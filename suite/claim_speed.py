"""Claim tests on how fast an optimizer learns (section 3.3, Figure 7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite.claim_tests import EndsBelowAll, against_best, register_claim_test
from suite.curves import Curve
from suite.definitions import PanelInfo
from suite.evidence import Evidence, Outcome, finite_mean, judge, worst
from suite.formatting import number
from suite.scores import MeanLog, Score
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

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (self._early(panel),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the early losses with the best baseline's."""
        early = self._early(evidence.panel(self.panel))
        interval, best, scores = against_best(self, evidence, early)
        note = (
            f"mean log10 loss of the first {self.until:.0f} updates, {self.optimizer} "
            f"{number(finite_mean(scores[self.optimizer]))} minus best baseline {best} "
            f"{number(finite_mean(scores[best]))}; {self._how_soon(evidence, best)}"
        )
        return Outcome(judge(interval, 0.0), interval, note)

    def _early(self, panel: PanelInfo) -> MeanLog:
        return MeanLog(1, int(min(self.until, panel.steps)))

    def _how_soon(self, evidence: Evidence, baseline: str) -> str:
        """After how many updates the mean loss, over a tenth of the steps, is the baseline's."""
        both = (self.optimizer, baseline)
        ours, theirs = (_smooth(evidence.curve(self.panel, each)) for each in both)
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

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return self._faster().scores(panel)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare early losses, then final ones."""
        early = self._faster().check(evidence)
        end = EndsBelowAll(self.panel, self.optimizer, self.baselines).check(evidence)
        verdict = worst((early.verdict, end.verdict))
        note = f"{early.note} ({early.verdict}); at the end, {end.note} ({end.verdict})"
        return Outcome(verdict, early.interval, note)

    def _faster(self) -> LearnsFaster:
        return LearnsFaster(self.panel, self.optimizer, self.until, self.baselines)


def _smooth(curve: Curve) -> Floats:
    """The mean curve [T], averaged over the steps around each: minibatches differ."""
    around = max(1, len(curve.mean) // 40)
    smooth = pd.Series(curve.mean).rolling(2 * around + 1, center=True, min_periods=1).mean()
    return np.asarray(smooth)
