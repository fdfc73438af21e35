"""Claim tests on a recipe of meta-training: on several trainings of it that differ in their seed.

Their intervals hold for other seeds as well as for other test instances
(`suite.report.statistics.two_level`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import (
    Evidence,
    Outcome,
    divergence,
    finite_mean,
    judge,
    turning,
)
from l2l.suite.report.claims.registry import Names, register_claim_test
from l2l.suite.report.claims.tests import against_all, summed_losses
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import Score
from l2l.suite.report.statistics.two_level import difference_over_trainings


class OfTrainings:
    """A test whose evidence is of several trainings, told from those of one."""


@register_claim_test("trainings_end_below_all")
@dataclass(frozen=True)
class TrainingsEndBelowAll(OfTrainings):
    """The mean final loss over trainings and instances is below that of the best baseline.

    Estimate: paired mean difference, trainings minus best baseline; claimed below 0, and its
    interval holds for all baselines at once.
    """

    panel: str
    optimizers: Names
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the best baseline's."""
        return _ends_against_all(self, evidence, above=False)


@register_claim_test("trainings_end_above_all")
@dataclass(frozen=True)
class TrainingsEndAboveAll(OfTrainings):
    """The mean final loss over trainings and instances is above that of the worst baseline.

    Estimate: paired mean difference, trainings minus worst baseline; claimed above 0, and its
    interval holds for all baselines at once.
    """

    panel: str
    optimizers: Names
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the worst baseline's."""
        return _ends_against_all(self, evidence, above=True)


def _ends_against_all(
    test: TrainingsEndBelowAll | TrainingsEndAboveAll, evidence: Evidence, above: bool
) -> Outcome:
    given = (test.panel, test.optimizers, test.baselines, evidence.end(test.panel))
    found = against_all(evidence, *given, above=above)
    ends, baseline = _ends(found.scores, test.optimizers), found.baseline
    note = f"{len(test.optimizers)} trainings {ends} minus {'worst' if above else 'best'} baseline "
    note += f"{baseline} {number(finite_mean(found.scores[baseline]))}{found.divergence}"
    below = found.difference
    return Outcome(judge(below, 0.0), below.negated() if above else below, note)


@register_claim_test("trainings_sum_below")
@dataclass(frozen=True)
class TrainingsSumBelow(OfTrainings):
    """The losses sum up to less than `bound` over the first updates, on average over trainings.

    Estimate: as that of `sum_below`; claimed below 0.
    """

    panel: str
    optimizers: Names
    bound: float
    until: float = math.inf

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (summed_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the sums of losses with the bound."""
        summed = summed_losses(evidence.panel(self.panel), self.until)
        sums = evidence.scores(self.panel, self.optimizers, summed)
        sums *= summed.last - summed.first + 1
        interval = difference_over_trainings(sums.to_numpy().T, np.full(len(sums), self.bound))
        note = f"sums of losses of {len(self.optimizers)} trainings {_ends(sums, self.optimizers)}"
        note += turning(interval.shifted(self.bound), self.bound)
        note += divergence(sums, self.optimizers)
        return Outcome(judge(interval, 0.0), interval, note)


def _ends(scores: pd.DataFrame, optimizers: Names) -> str:
    return ", ".join(number(finite_mean(scores[name])) for name in optimizers)
