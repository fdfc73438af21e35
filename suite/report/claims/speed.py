"""Claim tests on how fast an optimizer learns (section 3.3, Figure 7)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from l2l.suite.core.bounds import NotEmpty
from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import Evidence, Outcome, deciding, judge
from l2l.suite.report.claims.registry import Updates, register_claim_test
from l2l.suite.report.claims.tests import EndsBelowAll, against_all
from l2l.suite.report.curves import smoothed
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import MeanLoss, Score


@register_claim_test("learns_faster")
@dataclass(frozen=True)
class LearnsFaster:
    """The optimizer's loss is below that of every baseline, stretch after stretch of the updates.

    `until` has the last updates of the stretches: with 100 and 300 they are updates 1 to 100 and
    101 to 300. In each the optimizer's mean log10 loss is claimed below that of the baseline that
    is best there; the verdict is the worst of all.

    Estimate: paired mean difference, optimizer minus best baseline, in the stretch where it is
    highest of those that have this verdict; claimed below 0, and its interval holds for all
    baselines at once. The note tells all stretches, and how soon the mean curve is where the best
    baseline's is after the stretch.
    """

    panel: str
    optimizer: str
    until: Annotated[tuple[Updates, ...], NotEmpty()]
    baselines: tuple[str, ...] = ()

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return self._stretches(panel)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the losses with the best baseline's in each stretch."""
        parts, notes = [], []
        for stretch in self._stretches(evidence.panel(self.panel)):
            given = (self.panel, [self.optimizer], self.baselines)
            found = against_all(evidence, *given, stretch)
            verdict = judge(found.difference, 0.0)
            parts.append((verdict, found.difference))
            notes.append(
                f"updates {stretch.first} to {stretch.last}: mean log10 loss, "
                f"{self.optimizer} {found.means} ({verdict}); "
                f"{self._how_soon(evidence, found.baseline, stretch.last)}"
            )
        parts.sort(key=lambda part: part[1].estimate, reverse=True)
        return Outcome(*deciding(parts), "; ".join(notes))

    def _stretches(self, panel: PanelInfo) -> list[MeanLoss]:
        ends = [min(int(end), panel.steps) for end in sorted(self.until)]
        return [
            MeanLoss(before + 1, end, log=True)
            for before, end in itertools.pairwise((0, *ends))
            if end > before
        ]

    def _how_soon(self, evidence: Evidence, baseline: str, updates: int) -> str:
        """After how many updates the mean curve, smoothed, is where the baseline's is."""
        both = (self.optimizer, baseline)
        ours, theirs = (smoothed(evidence.curve(self.panel, each).mean) for each in both)
        last = min(updates, len(theirs) - 1)
        there = np.flatnonzero(ours <= theirs[last])
        soon = f"after {there[0]}" if len(there) else "never"
        return (
            f"where {baseline} is after {last}, {number(theirs[last])}, {self.optimizer} is {soon}"
        )


@register_claim_test("learns_faster_and_ends_below")
@dataclass(frozen=True)
class LearnsFasterAndEndsBelow(LearnsFaster):
    """As `learns_faster`, and in the end the optimizer is below the best baseline as well.

    Estimate: that of `learns_faster`, or if the end has the worse verdict, that of
    `ends_below_all`. The verdict is the worse of the two, and the note tells both.
    """

    def check(self, evidence: Evidence) -> Outcome:
        """Compare early losses, then final ones."""
        early = super().check(evidence)
        end = EndsBelowAll(self.panel, self.optimizer, self.baselines).check(evidence)
        note = f"{early.note}; at the end, {end.note} ({end.verdict})"
        return Outcome(*deciding((part.verdict, part.interval) for part in (early, end)), note)
