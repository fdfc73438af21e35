"""The claim that one curve is another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from l2l.suite.core.bounds import Above
from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import (
    Evidence,
    Outcome,
    divergence,
    finite_mean,
    judge,
    turning,
)
from l2l.suite.report.claims.registry import register_claim_test
from l2l.suite.report.formatting import number
from l2l.suite.report.scores.losses import LargestGap, Score
from l2l.suite.report.statistics.intervals import paired_difference


@register_claim_test("follows")
@dataclass(frozen=True)
class Follows:
    """The optimizer's curve is that of `than`, after `stride` updates for each one of the other's.

    Estimate: the largest gap between the two over a run, as a part of the loss at θ_0, averaged
    over runs; claimed below `tolerance`.
    """

    panel: str
    optimizer: str
    than: str
    tolerance: float
    stride: Annotated[float, Above(0)] = 1.0

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (self._gap(),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare the curves run by run."""
        gaps = evidence.scores(self.panel, [self.optimizer], self._gap())[self.optimizer]
        interval = paired_difference(gaps.to_numpy(), np.zeros(len(gaps)))
        note = f"largest gap between {self.optimizer} and {self.than} over a run, as a part of the "
        note += f"first loss: mean {number(finite_mean(gaps))}, highest {number(gaps.max())}"
        note += turning(interval, self.tolerance)
        note += divergence(gaps.to_frame(self.optimizer), [self.optimizer])
        return Outcome(judge(interval, self.tolerance), interval, note)

    def _gap(self) -> LargestGap:
        return LargestGap(self.than, self.stride)
