"""A test of claims of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from l2l.suite.report.claims.evidence import Evidence, Outcome, judge_above
from l2l.suite.report.claims.registry import register_claim_test
from l2l.suite.report.statistics.intervals import mean_interval


@register_claim_test("wins_on_most")
@dataclass(frozen=True)
class WinsOnMost:
    """The optimizer ends below another on more than a share of the instances.

    Estimate: that share. A run that diverged is below none.
    """

    panel: str
    optimizer: str
    than: str
    share: float = 0.5

    def check(self, evidence: Evidence) -> Outcome:
        both = [self.optimizer, self.than]
        losses = evidence.scores(self.panel, both, evidence.end(self.panel))
        wins = losses[self.optimizer] < losses[self.than]
        interval = mean_interval(wins.to_numpy(float))
        note = f"below {self.than} on {wins.sum()} of {len(wins)} instances"
        return Outcome(judge_above(interval, self.share), interval, note)
