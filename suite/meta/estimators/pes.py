"""Persistent evolution strategies (Vicol, Metz and Sohl-Dickstein 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.estimator import Estimate, MetaLoss
from l2l.suite.core.registry import register_estimator
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.antithetic import Antithetic, Pairs, antithetic_gradient, walk_pairs


@register_estimator("pes")
@dataclass(frozen=True)
class PES(Antithetic):
    """ĝ = 1/(2σ²N) Σ ξ (L⁺ − L⁻) over N pairs, ξ the sum of all ε of the run so far.

    Each pair draws ε ~ N(0, σ²I) afresh for every window, and goes on from where its own runs are.
    Over a whole run at one φ, the expectation is the gradient of E[L(φ + ε_1, φ + ε_2, …)]: windows
    cut nothing off. The variance grows with the number of windows.
    """

    def gradient(
        self,
        optimizer: Learned,
        objective: Objective,
        place: Pairs,
        steps: int,
        meta_loss: MetaLoss,
        rng: Rng,
    ) -> Estimate:
        noise = self.sigma * rng.normal(*place.noise.shape).to(place.noise)
        window = walk_pairs(optimizer, objective, place.point, noise, steps, meta_loss)
        summed = place.noise + noise
        gradient = antithetic_gradient(summed, window.gaps, self.sigma)
        return Estimate(gradient, Pairs(window.point, summed), window.losses)
