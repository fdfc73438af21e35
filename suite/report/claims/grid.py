"""Claim tests on a grid of panels, such as Figure 6's architectures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import Evidence, MissingRunsError, Outcome, judge_above
from l2l.suite.report.claims.registry import register_claim_test
from l2l.suite.report.claims.tests import against_all
from l2l.suite.report.formatting import number
from l2l.suite.report.paper import final_loss
from l2l.suite.report.statistics.intervals import Interval

# A count that equals what is claimed is enough.
TIE = 1e-9


@register_claim_test("ends_below_in_grid")
@dataclass(frozen=True)
class EndsBelowInGrid:
    """The optimizer's mean final loss is below the best baseline's in a share of a grid's panels.

    Estimate: the share of panels in which it is below; its interval goes from the share in which it
    surely is, by the 95 % interval of the paired difference, to the share in which it may be.
    Without `share`, that of the paper's own figure is claimed. With `trainings`, other trainings of
    the optimizer, the mean over all of them counts.
    """

    grid: str
    optimizer: str
    trainings: tuple[str, ...] = ()
    share: float = math.nan
    baselines: tuple[str, ...] = ()

    def check(self, evidence: Evidence) -> Outcome:
        """Count the panels."""
        panels = [each for each in evidence.experiment.panels if each.grid == self.grid]
        counts = np.zeros(3)
        instances, differing, shown = [], [], []
        for panel in panels:
            given = (panel.name, self._optimizers(), self.baselines, evidence.end(panel.name))
            difference = against_all(evidence, *given).difference
            # Where nothing is known of an end, it may be below.
            counts += [difference.high < 0, difference.estimate < 0, not difference.low >= 0]
            instances.append(difference.n)
            below = self._below_in_the_paper(evidence, panel)
            if below is not None:
                shown.append(below)
                if below != (difference.estimate < 0):
                    sure = difference.high < 0 or difference.low > 0
                    differing.append(f"{panel.title}{'' if sure else ' (unsure)'}")
        if not shown and math.isnan(self.share):
            raise MissingRunsError(
                f"the paper shows nothing of the panels of {self.grid}: the claim needs 'share'"
            )
        share = sum(shown) / len(shown) if math.isnan(self.share) else self.share
        low, middle, high = counts / len(panels)
        note = (
            f"{self._name()} ends below in {counts[1]:.0f} of {len(panels)} panels, surely in "
            f"{counts[0]:.0f}, perhaps in {counts[2]:.0f}; claimed in {number(share)} of them"
        )
        if shown:
            note += f"; in the paper in {sum(shown)} of {len(shown)}, otherwise than here in "
            note += ", ".join(differing) or "none"
        interval = Interval(middle, low, high, min(instances))
        return Outcome(judge_above(interval, share - TIE), interval, note)

    def _optimizers(self) -> tuple[str, ...]:
        return (self.optimizer, *self.trainings)

    def _name(self) -> str:
        count = len(self._optimizers())
        over = f", on average over {count} trainings," if count > 1 else ""
        return f"{self.optimizer}{over}"

    def _below_in_the_paper(self, evidence: Evidence, panel: PanelInfo) -> bool | None:
        """Whether the paper's optimizer ends below its baselines; None where it shows none."""
        if panel.paper is None:
            return None
        names = evidence.baselines(panel.name, self._optimizers(), self.baselines)
        ours, *others = (final_loss(panel.paper, name) for name in (self.optimizer, *names))
        known = [loss for loss in others if math.isfinite(loss)]
        return ours < min(known) if math.isfinite(ours) and known else None
