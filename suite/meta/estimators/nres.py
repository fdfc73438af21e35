"""Noise-reuse evolution strategies (Li et al. 2023), and evolution strategies over whole runs."""

from __future__ import annotations

from dataclasses import dataclass

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.estimator import Estimate, MetaLoss
from l2l.suite.core.registry import register_estimator
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.antithetic import Antithetic, Pairs, antithetic_gradient, walk_pairs


@register_estimator("nres")
@dataclass(frozen=True)
class NRES(Antithetic):
    """ĝ = 1/(2σ²N) Σ ε (L⁺ − L⁻) over N pairs, each with one ε ~ N(0, σ²I) for the whole run.

    Over a whole run at one φ, the estimates of its windows sum to that of evolution strategies over
    the whole run, which is what there is without `window`: its expectation is the gradient of
    E[L(φ + ε)].
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
        noise = place.noise
        if place.point.step == 0:
            noise = self.sigma * rng.normal(*noise.shape).to(noise)
        window = walk_pairs(optimizer, objective, place.point, noise, steps, meta_loss)
        gradient = antithetic_gradient(noise, window.gaps, self.sigma)
        return Estimate(gradient, Pairs(window.point, noise), window.losses)
