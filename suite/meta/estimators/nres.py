"""Noise-reuse evolution strategies (Li et al. 2023), and evolution strategies over whole runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from optimizers.learned.base import Learned
from suite.core.bounds import Above, Count
from suite.core.estimator import Estimate, Estimator, MetaLoss
from suite.core.registry import register_estimator
from suite.core.seeds import Rng
from suite.inner.objective import Objective
from suite.meta.estimators.antithetic import Pairs, antithetic_gradient, begin_pairs, walk_pairs


@register_estimator("nres")
@dataclass(frozen=True)
class NRES(Estimator):
    """ĝ = 1/(2σ²N) Σ ε (L⁺ − L⁻) over N pairs, each with one ε ~ N(0, σ²I) for the whole run.

    Over a whole run at one φ, the estimates of its windows sum to that of evolution strategies over
    the whole run, which is what there is without `window`: its expectation is the gradient of
    E[L(φ + ε)].

    Args:
        sigma: σ, the deviation of φ's weights.
        pairs: N.
    """

    sigma: Annotated[float, Above(0)] = 0.01
    pairs: Count = 8

    @property
    def copies(self) -> int:
        return 2 * self.pairs

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Pairs, Tensor]:
        return begin_pairs(optimizer, objective)

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
