"""Claim tests on the runs of one panel: final losses, and what the losses are on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import MeanLog, MeanLoss, Score, last_tenth
from l2l.suite.report.statistics.intervals import (
    Interval,
    difference_of_all,
    paired_difference,
    ratio_of_means,
    spread_of_means,
)


@register_claim_test("ends_below_all")
@dataclass(frozen=True)
class EndsBelowAll:
    """The optimizer's mean final loss is below that of the best baseline.

    Estimate: paired mean difference, optimizer minus best baseline; claimed below 0, and its
    interval holds for all baselines at once. Without `baselines`, all optimizers of the panel that
    were not meta-trained are meant.
    """

    panel: str
    optimizer: str
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Compare final losses with the best baseline's."""
        given = (self.panel, self.optimizer, self.baselines)
        interval, best, losses = against_best(evidence, *given, evidence.end(self.panel))
        note = f"{_means(losses, self.optimizer, best)}{_paper(evidence, self, best)}"
        note += divergence(losses, [self.optimizer], [best])
        return Outcome(judge(interval, 0.0), interval, note)


@register_claim_test("below_all_at")
@dataclass(frozen=True)
class BelowAllAt:
    """The optimizer's mean loss after some updates is below that of the best baseline.

    The loss is the mean over the last tenth of the first `until` updates, as a final one of all.

    Estimate: paired mean difference, optimizer minus best baseline; claimed below 0, and its
    interval holds for all baselines at once. Without `baselines`, all optimizers of the panel that
    were not meta-trained are meant. It says nothing of runs that are shorter.
    """

    panel: str
    optimizer: str
    until: float
    baselines: tuple[str, ...] = ()

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (self._around(panel),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the losses there with the best baseline's."""
        around = self._around(evidence.panel(self.panel))
        given = (self.panel, self.optimizer, self.baselines)
        interval, best, losses = against_best(evidence, *given, around)
        note = f"updates {around.first} to {around.last}: {_means(losses, self.optimizer, best)}"
        note += divergence(losses, [self.optimizer], [best])
        return Outcome(judge(interval, 0.0), interval, note)

    def _around(self, panel: PanelInfo) -> MeanLoss:
        return last_tenth(min(math.ceil(self.until), panel.steps))


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
        given = (self.panel, self.optimizer, self.baselines)
        interval, best, areas = against_best(evidence, *given, shown)
        note = f"mean log10 loss, {_means(areas, self.optimizer, best)}"
        note += turning(interval, -self.margin)
        note += divergence(areas, [self.optimizer], [best])
        return Outcome(judge(interval, -self.margin), interval, note)


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
    until: float = math.inf

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (summed_losses(panel, self.until),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the sum of losses with the bound."""
        summed = summed_losses(evidence.panel(self.panel), self.until)
        means = evidence.scores(self.panel, [self.optimizer], summed)
        sums = means * (summed.last - summed.first + 1)
        ours = sums[self.optimizer]
        interval = paired_difference(ours.to_numpy(), np.full(len(ours), self.bound))
        note = f"sum of losses {number(finite_mean(ours))}"
        note += turning(interval.shifted(self.bound), self.bound)
        note += divergence(sums, [self.optimizer])
        return Outcome(judge(interval, 0.0), interval, note)


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
        names = evidence.baselines(self.panel, self.optimizer, self.baselines)
        end = evidence.end(self.panel)
        losses = evidence.scores(self.panel, [self.optimizer, *names], end)
        worst = str(losses[names].mean().idxmax())
        ours = losses[self.optimizer].to_numpy()
        below = difference_of_all({name: (losses[name].to_numpy(), ours) for name in names}, worst)
        note = f"{_means(losses, self.optimizer, worst, 'worst')}{_paper(evidence, self, worst)}"
        note += divergence(losses, [worst], [self.optimizer])
        return Outcome(judge(below, 0.0), below.negated(), note)


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


def summed_losses(panel: PanelInfo, until: float) -> MeanLoss:
    """The mean of the losses before each of the first `until` updates, or of all there are."""
    return MeanLoss(0, math.ceil(min(until, panel.steps)) - 1)


def against_best(
    evidence: Evidence, panel: str, optimizer: str, baselines: Sequence[str], score: Score
) -> tuple[Interval, str, pd.DataFrame]:
    """The paired difference to the best baseline, the name of that, and everyone's scores.

    Its interval holds for all baselines at once: those named, or else all of the panel.
    """
    names = evidence.baselines(panel, optimizer, baselines)
    scores = evidence.scores(panel, [optimizer, *names], score)
    means = scores[names].apply(finite_mean)
    best = str(means.idxmin()) if means.notna().any() else names[0]
    ours = scores[optimizer].to_numpy()
    pairs = {name: (ours, scores[name].to_numpy()) for name in names}
    return difference_of_all(pairs, best), best, scores


def _shown(panel: PanelInfo) -> MeanLog:
    """Of the steps that the panel shows, without θ_0, which is the same for all."""
    return MeanLog(panel.first_shown + 1, panel.steps)


def _means(scores: pd.DataFrame, optimizer: str, baseline: str, kind: str = "best") -> str:
    ours, theirs = finite_mean(scores[optimizer]), finite_mean(scores[baseline])
    return f"{optimizer} {number(ours)} minus {kind} baseline {baseline} {number(theirs)}"


def _paper(evidence: Evidence, test: EndsBelowAll | EndsAboveAll, baseline: str) -> str:
    return evidence.in_the_paper(test.panel, [test.optimizer, baseline])
