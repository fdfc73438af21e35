"""Claim tests on what optimizers do with single coordinates (Appendix B, Figures 10 to 13).

Every quantity is one number an instance, from all its traced coordinates; intervals are over
instances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from suite.claim_tests import register_claim_test
from suite.evidence import Evidence, MissingRunsError, Outcome, judge, judge_above, worst
from suite.formatting import interval, number
from suite.statistics import Floats, Interval, mean_interval, paired_difference, ratio_of_means
from suite.trace_tables import Traces

# A response is step-like if more than half of its range is crossed within the central tenth of the
# gradients: five times as much as by a straight line.
CENTRE = 0.1
STEEP = 0.5


@register_claim_test("bigger_updates")
@dataclass(frozen=True)
class BiggerUpdates:
    """The optimizer's updates are bigger than those that others propose at the same points.

    Estimate: the ratio of mean absolute updates, optimizer over the `than` with the biggest;
    claimed above 1.
    """

    panel: str
    optimizer: str
    than: tuple[str, ...]

    def check(self, evidence: Evidence) -> Outcome:
        """Compare mean absolute updates."""
        traces = _traces(evidence, self.panel, (self.optimizer, *self.than)).traces
        sizes = traces.assign(size=traces["update"].abs())
        means = _by_instance(sizes.groupby(["instance", "optimizer"])["size"].mean())
        ratios = {other: _ratio(means, self.optimizer, other) for other in self.than}
        biggest = min(ratios, key=lambda other: ratios[other].estimate)
        note = "mean absolute update " + ", ".join(
            f"{name} {number(means[name].mean())}" for name in (self.optimizer, *self.than)
        )
        return Outcome(judge_above(ratios[biggest], 1.0), ratios[biggest], note)


@register_claim_test("short_noisy_momentum")
@dataclass(frozen=True)
class ShortNoisyMomentum:
    """The optimizer has momentum, over fewer steps and with noisier updates than another's.

    Momentum: of the effects e_j that a gradient's sign has on the updates j steps later, those
    after lag 0 are on average along descent: Σ_{j≥1} e_j / Σ_j |e_j| above 0. Time scale: the mean
    lag Σ_j j |e_j| / Σ_j |e_j|. Noise: mean (u_t − u_{t−1})² over twice the mean u_t², 1 for white
    noise and near 0 for smooth updates, each coordinate's updates in units of their root mean
    square.

    Estimate: the mean lag minus that of `than`, claimed below 0. The verdict is the worst of the
    three, and the note tells all.
    """

    panel: str
    optimizer: str
    than: str

    def check(self, evidence: Evidence) -> Outcome:
        """Test for momentum, then compare time scales, then noise."""
        traces = _traces(evidence, self.panel, (self.optimizer, self.than))
        effects = traces.impulses.groupby(["instance", "optimizer", "lag"])["effect"].mean()
        curves = effects.unstack("lag")
        absolute = curves.abs()
        total = absolute.sum(axis=1)
        later = [lag for lag in curves if lag > 0]
        share = _by_instance(curves[later].sum(axis=1) / total)
        scale = _by_instance((absolute * absolute.columns.to_numpy()).sum(axis=1) / total)
        noise = _by_instance(_roughness(traces.traces))

        momentum = mean_interval(share[self.optimizer].to_numpy())
        shorter = paired_difference(*_pair(scale, self.optimizer, self.than))
        noisier = _ratio(noise, self.optimizer, self.than)
        verdicts = (judge_above(momentum, 0.0), judge(shorter, 0.0), judge_above(noisier, 1.0))
        mean_scale, mean_noise = (
            f"{self.optimizer} {number(each[self.optimizer].mean())}, "
            f"{self.than} {number(each[self.than].mean())}"
            for each in (scale, noise)
        )
        note = (
            f"share of the effect after lag 0: {number(momentum.estimate)} "
            f"{interval(momentum.low, momentum.high)} ({verdicts[0]}); "
            f"mean lag {mean_scale} ({verdicts[1]}); noise {mean_noise} ({verdicts[2]})"
        )
        return Outcome(worst(verdicts), shorter, note)


@register_claim_test("step_like_responses")
@dataclass(frozen=True)
class StepLikeResponses:
    """Updates as functions of the gradient are often step-like, and sometimes opposite to `than`'s.

    A response is step-like if more than half of its range lies within the central tenth of the
    gradients, and opposite if the product with the other's response sums up to less than 0.

    Estimate: the share of responses, one a coordinate and step, that are step-like; claimed above
    `often`. The share that is opposite is claimed above `sometimes`. The verdict is the worse of
    the two, and the note tells both.
    """

    panel: str
    optimizer: str
    than: str
    often: float = 0.5
    sometimes: float = 0.05

    def check(self, evidence: Evidence) -> Outcome:
        """Count step-like responses, then opposite ones."""
        responses = _traces(evidence, self.panel, (self.optimizer, self.than)).responses
        ours, theirs = (_curves(responses, name) for name in (self.optimizer, self.than))
        steep = _share(ours.index, _steepness(ours) > STEEP)
        others = _share(theirs.index, _steepness(theirs) > STEEP)
        products = ours.to_numpy() * theirs.reindex(ours.index).to_numpy()
        opposite = _share(ours.index, products.sum(axis=1) < 0)
        verdicts = (judge_above(steep, self.often), judge_above(opposite, self.sometimes))
        note = (
            f"step-like: {number(steep.estimate)}, claimed above {number(self.often)} "
            f"({verdicts[0]}; {self.than} {number(others.estimate)}); opposite to {self.than}: "
            f"{number(opposite.estimate)} {interval(opposite.low, opposite.high)}, claimed above "
            f"{number(self.sometimes)} ({verdicts[1]})"
        )
        return Outcome(worst(verdicts), steep, note)


def _traces(evidence: Evidence, panel: str, optimizers: Iterable[str]) -> Traces:
    """The panel's traces; MissingRunsError if an optimizer has none."""
    found = evidence.traces.of(evidence.experiment.name, panel)
    for optimizer in optimizers:
        if optimizer not in set(found.traces["optimizer"]):
            raise MissingRunsError(f"no trace of {optimizer} in panel {panel}")
    return found


def _by_instance(values: pd.Series) -> pd.DataFrame:
    """Values by (instance, optimizer) with a column an optimizer."""
    return values.unstack("optimizer").astype(float)


def _pair(values: pd.DataFrame, one: str, other: str) -> tuple[Floats, Floats]:
    return values[one].to_numpy(), values[other].to_numpy()


def _ratio(values: pd.DataFrame, one: str, other: str) -> Interval:
    return ratio_of_means(*_pair(values, one, other))


def _roughness(traces: pd.DataFrame) -> pd.Series:
    """Noise of the updates, by (instance, optimizer); see `ShortNoisyMomentum`."""
    keys = ["instance", "optimizer", "coordinate"]
    updates = traces.sort_values([*keys, "step"])
    squares = updates["update"].astype(float).pow(2)
    changes = updates.groupby(keys)["update"].diff().astype(float).pow(2)
    groups = [updates[key] for key in keys]
    noise = changes.groupby(groups).mean() / (2 * squares.groupby(groups).mean())
    return noise.groupby(["instance", "optimizer"]).mean()


def _curves(responses: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """One response a row, by (instance, coordinate, step), gradients ascending."""
    own = responses[responses["optimizer"] == optimizer]
    keys = ["instance", "coordinate", "step"]
    # The k-th gradient of one response stands at the same share of its span as that of any other.
    ordered = own.sort_values([*keys, "gradient"], kind="stable")
    place = ordered.groupby(keys).cumcount().rename("place")
    return ordered.set_index([*keys, place])["update"].astype(float).unstack("place")


def _steepness(curves: pd.DataFrame) -> Floats:
    """The part of each response's range that lies within the central tenth of the gradients."""
    values = curves.to_numpy()
    central = np.abs(np.linspace(-1, 1, values.shape[1])) <= CENTRE + 1e-9
    spans, inner = np.ptp(values, axis=1), np.ptp(values[:, central], axis=1)
    return np.asarray(np.divide(inner, spans, out=np.zeros_like(spans), where=spans > 0))


def _share(index: pd.Index, which: NDArray[np.bool_]) -> Interval:
    """The share of rows that are so, over instances."""
    by_instance = pd.Series(which.astype(float), index=index).groupby("instance").mean()
    return mean_interval(by_instance.to_numpy())
