"""Claim tests on the runs of one panel: final losses, and what the losses are on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from l2l.suite.report.claims.registry import Names, Updates, register_claim_test
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import MeanLoss, Score, last_tenth
from l2l.suite.report.statistics.intervals import (
    Interval,
    highest_of,
    ratio_of_means,
    spread_of_means,
)
from l2l.suite.report.statistics.two_level import difference_over_trainings


@register_claim_test("ends_below_all")
@dataclass(frozen=True)
class EndsBelowAll:
    """The optimizer's mean final loss is below that of the best baseline.

    With `until`, the loss at the end of the first so many updates: the mean over their last tenth.
    Then the claim says nothing of runs that are shorter.

    Estimate: paired mean difference, optimizer minus best baseline; claimed below 0, and its
    interval holds for all baselines at once. Without `baselines`, all optimizers of the panel that
    were not meta-trained are meant.
    """

    panel: str
    optimizer: str
    baselines: tuple[str, ...] = ()
    until: Updates = math.inf

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (last_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the best baseline's."""
        end = last_losses(evidence.panel(self.panel), self.until)
        found = against_all(evidence, self.panel, [self.optimizer], self.baselines, end)
        note = f"{self.optimizer} {found.means}"
        if math.isfinite(self.until):
            note = f"updates {end.first} to {end.last}: {note}"
        else:
            note += evidence.in_the_paper(self.panel, [self.optimizer, found.baseline])
        difference = found.difference
        return Outcome(judge(difference, 0.0), difference, note + found.divergence)


@register_claim_test("area_below_all")
@dataclass(frozen=True)
class AreaBelowAll:
    """The optimizer's loss is below that of the best baseline by a wide margin over the run.

    Estimate: paired mean difference of the mean log10 loss, optimizer minus best baseline; claimed
    below −`margin`.
    """

    panel: str
    optimizer: str
    margin: float
    baselines: tuple[str, ...] = ()

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (_shown(panel),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the area under log10 loss with the best baseline's."""
        shown = _shown(evidence.panel(self.panel))
        found = against_all(evidence, self.panel, [self.optimizer], self.baselines, shown)
        difference = found.difference
        note = f"mean log10 loss, {self.optimizer} {found.means}"
        note += f"{turning(difference, -self.margin)}{found.divergence}"
        return Outcome(judge(difference, -self.margin), difference, note)


@register_claim_test("sum_below")
@dataclass(frozen=True)
class SumBelow:
    """The optimizer's losses sum up to less than `bound` over the first updates (equation 3).

    Estimate: mean sum of the losses before each of the first `until` updates, or of all, minus
    `bound`; claimed below 0. It says nothing of runs that are shorter.
    """

    panel: str
    optimizer: str
    bound: float
    until: Updates = math.inf

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (summed_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the sum of losses with the bound."""
        summed = summed_losses(evidence.panel(self.panel), self.until)
        given = (self.panel, [self.optimizer], summed, self.bound)
        return sum_below(evidence, *given, "sum of losses")


@register_claim_test("ends_above_all")
@dataclass(frozen=True)
class EndsAboveAll:
    """The optimizer's mean final loss is above that of the worst baseline.

    Estimate: paired mean difference, optimizer minus worst baseline; claimed above 0, and its
    interval holds for all baselines at once.
    """

    panel: str
    optimizer: str
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the worst baseline's."""
        given = (self.panel, [self.optimizer], self.baselines, evidence.end(self.panel))
        found = against_all(evidence, *given, above=True)
        note = f"{self.optimizer} {found.means}"
        note += evidence.in_the_paper(self.panel, [self.optimizer, found.baseline])
        below = found.difference
        return Outcome(judge(below, 0.0), below.negated(), note + found.divergence)


@register_claim_test("ends_within")
@dataclass(frozen=True)
class EndsWithin:
    """The optimizers' mean final losses lie within a factor of one another.

    Estimate: the highest mean over the lowest; claimed below `ratio`.
    """

    panel: str
    optimizers: Names
    ratio: float

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the highest with the lowest final loss."""
        losses = evidence.scores(self.panel, self.optimizers, evidence.end(self.panel))
        interval = spread_of_means(losses.to_numpy())
        means = ", ".join(f"{name} {number(finite_mean(losses[name]))}" for name in losses)
        note = f"highest over lowest of {means}{evidence.in_the_paper(self.panel, self.optimizers)}"
        note += turning(interval, self.ratio)
        note += divergence(losses, self.optimizers)
        return Outcome(judge(interval, self.ratio), interval, note)


@register_claim_test("at_least_as_good")
@dataclass(frozen=True)
class AtLeastAsGood:
    """The optimizer's mean final loss is not above another's by more than a tolerance.

    Estimate: ratio of the means, optimizer over `than`; claimed below `tolerance`.
    """

    panel: str
    optimizer: str
    than: str
    tolerance: float = 1.05

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses as a ratio."""
        end = evidence.end(self.panel)
        losses = evidence.scores(self.panel, [self.optimizer, self.than], end)
        ours, other = losses[self.optimizer], losses[self.than]
        interval = ratio_of_means(ours.to_numpy(), other.to_numpy())
        note = f"{self.optimizer} {number(finite_mean(ours))} over {self.than} "
        note += f"{number(finite_mean(other))}{turning(interval, self.tolerance)}"
        note += divergence(losses, [self.optimizer], [self.than])
        return Outcome(judge(interval, self.tolerance), interval, note)


def last_losses(panel: PanelInfo, until: float) -> MeanLoss:
    """The mean loss over the last tenth of the first `until` updates, or of all there are."""
    return last_tenth(math.ceil(min(until, panel.steps)))


def summed_losses(panel: PanelInfo, until: float) -> MeanLoss:
    """The mean of the losses before each of the first `until` updates, or of all there are."""
    return MeanLoss(0, math.ceil(min(until, panel.steps)) - 1)


def sum_below(
    evidence: Evidence,
    panel: str,
    optimizers: Sequence[str],
    summed: MeanLoss,
    bound: float,
    what: str,
) -> Outcome:
    """Compare the sum of some losses, on average over several trainings, with a bound.

    Args:
        evidence: of the experiment.
        panel: its name.
        optimizers: one, or one for each training of a recipe.
        summed: the mean of these losses.
        bound: which the sum is claimed to be below.
        what: how the note calls the sums.
    """
    sums = evidence.scores(panel, optimizers, summed) * (summed.last - summed.first + 1)
    interval = difference_over_trainings(sums.to_numpy().T, np.full(len(sums), bound))
    note = f"{what} {_means(sums, optimizers)}{turning(interval.shifted(bound), bound)}"
    return Outcome(judge(interval, 0.0), interval, note + divergence(sums, optimizers))


class Against(NamedTuple):
    """What optimizers are compared with the best or the worst of several baselines by.

    Args:
        difference: claimed to be below 0; its interval holds for all baselines at once.
        baseline: the best or the worst one.
        means: a clause on the mean scores of both.
        divergence: a clause on runs that diverged.
    """

    difference: Interval
    baseline: str
    means: str
    divergence: str


def against_all(
    evidence: Evidence,
    panel: str,
    optimizers: Sequence[str],
    baselines: Sequence[str],
    score: Score,
    above: bool = False,
) -> Against:
    """Compare an optimizer, or several trainings on average, with all baselines.

    Args:
        evidence: of the experiment.
        panel: its name.
        optimizers: one, or one for each training of a recipe.
        baselines: their names; all of the panel if there are none.
        score: what is compared.
        above: whether the optimizers are claimed to be above the worst baseline, instead of below
            the best; then the difference is that baseline's score minus the optimizers'.
    """
    names = evidence.baselines(panel, optimizers, baselines)
    scores = evidence.scores(panel, [*optimizers, *names], score)
    ours = scores[[*optimizers]].to_numpy().T

    def differences(tail: float) -> list[Interval]:
        others = (scores[name].to_numpy() for name in names)
        return [difference_over_trainings(ours, other, tail, above) for other in others]

    difference, place = highest_of(differences)
    chosen = names[place]
    sides = ([chosen], optimizers) if above else (optimizers, [chosen])
    theirs = f"{'worst' if above else 'best'} baseline {chosen} {_means(scores, [chosen])}"
    means = f"{_means(scores, optimizers)} minus {theirs}"
    return Against(difference, chosen, means, divergence(scores, *sides))


def _means(scores: pd.DataFrame, optimizers: Sequence[str]) -> str:
    return ", ".join(number(finite_mean(scores[name])) for name in optimizers)


def _shown(panel: PanelInfo) -> MeanLoss:
    """Of the steps that the panel shows, without θ_0, which is the same for all."""
    return MeanLoss(panel.first_shown + 1, panel.steps, log=True)
