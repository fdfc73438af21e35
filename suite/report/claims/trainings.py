"""Claim tests on a recipe of meta-training: on several trainings of it that differ in their seed.

Their intervals hold for other seeds as well as for other test instances
(`suite.report.statistics.two_level`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import Evidence, Outcome, judge
from l2l.suite.report.claims.registry import Names, Updates, register_claim_test
from l2l.suite.report.claims.tests import against_all, last_losses, sum_below, summed_losses
from l2l.suite.report.scores.losses import Score


@dataclass(frozen=True)
class OfTrainings:
    """A test whose evidence is of several trainings, told from those of one."""

    panel: str
    optimizers: Names


@register_claim_test("trainings_end_below_all")
@dataclass(frozen=True)
class TrainingsEndBelowAll(OfTrainings):
    """The mean final loss over trainings and instances is below that of the best baseline.

    With `until`, the loss at the end of the first so many updates, as of `ends_below_all`.

    Estimate: paired mean difference, trainings minus best baseline; claimed below 0, and its
    interval holds for all baselines at once.
    """

    baselines: tuple[str, ...] = ()
    until: Updates = math.inf
    above: ClassVar[bool] = False

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (last_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the best baseline's, or the worst's."""
        end = last_losses(evidence.panel(self.panel), self.until)
        given = (self.panel, self.optimizers, self.baselines, end)
        found = against_all(evidence, *given, above=self.above)
        note = f"{len(self.optimizers)} trainings {found.means}{found.divergence}"
        if math.isfinite(self.until):
            note = f"until update {math.ceil(self.until)}: {note}"
        below = found.difference
        return Outcome(judge(below, 0.0), below.negated() if self.above else below, note)


@register_claim_test("trainings_end_above_all")
@dataclass(frozen=True)
class TrainingsEndAboveAll(TrainingsEndBelowAll):
    """The mean final loss over trainings and instances is above that of the worst baseline.

    Estimate: paired mean difference, trainings minus worst baseline; claimed above 0, and its
    interval holds for all baselines at once.
    """

    above: ClassVar[bool] = True


@register_claim_test("trainings_sum_below")
@dataclass(frozen=True)
class TrainingsSumBelow(OfTrainings):
    """The losses sum up to less than `bound` over the first updates, on average over trainings.

    Estimate: as that of `sum_below`; claimed below 0.
    """

    bound: float
    until: Updates = math.inf

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (summed_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the sums of losses with the bound."""
        summed = summed_losses(evidence.panel(self.panel), self.until)
        given = (self.panel, self.optimizers, summed, self.bound)
        return sum_below(evidence, *given, f"sums of losses of {len(self.optimizers)} trainings")
