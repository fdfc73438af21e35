"""Claim tests on what optimizers do with single coordinates (Appendix B, Figures 10 to 13).

Every quantity is one number an instance, from all its traced coordinates; intervals are over
instances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import (
    Evidence,
    Outcome,
    deciding,
    judge,
    judge_above,
    turning,
)
from l2l.suite.report.claims.registry import Names, register_claim_test
from l2l.suite.report.formatting import interval, number
from l2l.suite.report.scores.losses import Score
from l2l.suite.report.scores.traces import (
    WAYS,
    LaterEffect,
    MeanLag,
    MeanUpdate,
    Noise,
    Opposite,
    StepLike,
)
from l2l.suite.report.statistics.intervals import (
    highest_of,
    mean_interval,
    paired_difference,
    ratio_of_means,
)


@register_claim_test("bigger_updates")
@dataclass(frozen=True)
class BiggerUpdates:
    """The optimizer's updates are bigger than those that others propose at the same points.

    Estimate: the ratio of mean absolute updates, optimizer over the `than` with the biggest;
    claimed above 1, and its interval holds for all of `than` at once.
    """

    panel: str
    optimizer: str
    than: Names

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return (MeanUpdate(),)

    def check(self, evidence: Evidence) -> Outcome:
        """Compare mean absolute updates."""
        means = evidence.scores(self.panel, (self.optimizer, *self.than), MeanUpdate())
        ours, *others = means.to_numpy().T
        # Turned around, because what diverged counts against the side that is claimed lower.
        below, _ = highest_of(lambda tail: [ratio_of_means(other, ours, tail) for other in others])
        note = "mean absolute update " + ", ".join(
            f"{name} {number(means[name].mean())}" for name in (self.optimizer, *self.than)
        )
        return Outcome(judge(below, 1.0), below.inverted(), note)


@register_claim_test("short_noisy_momentum")
@dataclass(frozen=True)
class ShortNoisyMomentum:
    """The optimizer has momentum, over fewer steps and with noisier updates than another's.

    Momentum: of the effects e_j that a gradient's sign has on the updates j steps later, those
    after lag 0 are on average along descent: Σ_{j≥1} e_j / Σ_j |e_j| above 0. Time scale: the mean
    lag Σ_j j |e_j| / Σ_j |e_j|. Noise: mean (u_t − u_{t−1})² over twice the mean u_t², 1 for white
    noise and near 0 for smooth updates, each coordinate's updates in units of their root mean
    square.

    Estimate: the mean lag minus that of `than`, claimed below 0; or if they have a worse verdict,
    the share that is momentum, claimed above 0, or the ratio of the noises, claimed above 1. The
    verdict is the worst of the three, and the note tells all.
    """

    panel: str
    optimizer: str
    than: str

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return LaterEffect(), MeanLag(), Noise()

    def check(self, evidence: Evidence) -> Outcome:
        """Test for momentum, then compare time scales, then noise."""
        both = (self.optimizer, self.than)
        share = evidence.scores(self.panel, [self.optimizer], LaterEffect())
        scale = evidence.scores(self.panel, both, MeanLag())
        noise = evidence.scores(self.panel, both, Noise())

        momentum = mean_interval(share[self.optimizer].to_numpy())
        shorter = paired_difference(*scale.to_numpy().T)
        less_noisy = ratio_of_means(noise[self.than].to_numpy(), noise[self.optimizer].to_numpy())
        parts = (
            (judge(shorter, 0.0), shorter),
            (judge_above(momentum, 0.0), momentum),
            (judge(less_noisy, 1.0), less_noisy.inverted()),
        )
        mean_scale, mean_noise = (
            f"{self.optimizer} {number(each[self.optimizer].mean())}, "
            f"{self.than} {number(each[self.than].mean())}"
            for each in (scale, noise)
        )
        note = (
            f"share of the effect after lag 0: {number(momentum.estimate)} "
            f"{interval(momentum.low, momentum.high)} ({parts[1][0]}); "
            f"mean lag {mean_scale} ({parts[0][0]}); noise {mean_noise} ({parts[2][0]})"
        )
        return Outcome(*deciding(parts), note)


@register_claim_test("step_like_responses")
@dataclass(frozen=True)
class StepLikeResponses:
    """Updates as functions of the gradient are often step-like, and sometimes opposite to `than`'s.

    A response is step-like if more than half of its range lies within the central tenth of the
    gradients. What is opposite can be said in several ways: responses whose product with the
    other's sums up to less than 0, responses of the other sign at most gradients, or single points
    of responses. Where these lead to different verdicts, the claim is undecided by definition.

    Estimate: the share of responses, one a coordinate and step, that are step-like, claimed above
    `often`; or if it has a worse verdict, the share that is opposite, claimed above `sometimes`.
    The verdict is the worse of the two, and the note tells both.
    """

    panel: str
    optimizer: str
    than: str
    often: float = 0.5
    sometimes: float = 0.05

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        return StepLike(), *self._ways()

    def check(self, evidence: Evidence) -> Outcome:
        """Count step-like responses, then opposite ones."""
        shares = evidence.scores(self.panel, (self.optimizer, self.than), StepLike())
        steep, others = (mean_interval(each) for each in shares.to_numpy().T)
        often = judge_above(steep, self.often)
        note = (
            f"step-like: {number(steep.estimate)} ({often}; {self.than} {number(others.estimate)})"
            f"{turning(steep, self.often, above=True)}"
        )
        parts = [(often, steep)]
        for way in self._ways():
            turned = evidence.scores(self.panel, [self.optimizer], way)
            opposite = mean_interval(turned[self.optimizer].to_numpy())
            verdict = judge_above(opposite, self.sometimes)
            parts.append((verdict, opposite))
            note += f"; {way.name}: {number(opposite.estimate)} ({verdict})"
            note += turning(opposite, self.sometimes, above=True)
        if len({verdict for verdict, _ in parts[1:]}) == 1:
            return Outcome(*deciding(parts), note)
        verdict, _ = deciding([parts[0], ("inconclusive", steep)])
        return Outcome(verdict, steep, note, reason="undecided by definition")

    def _ways(self) -> list[Opposite]:
        return [Opposite(self.than, way) for way in WAYS]
