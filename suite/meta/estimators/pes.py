"""Persistent evolution strategies (Vicol, Metz and Sohl-Dickstein 2021)."""

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


@register_estimator("pes")
@dataclass(frozen=True)
class PES(Estimator):
    """ĝ = 1/(2σ²N) Σ ξ (L⁺ − L⁻) over N pairs, ξ the sum of all ε of the run so far.

    Each pair draws ε ~ N(0, σ²I) afresh for every window, and goes on from where its own runs are.
    Over a whole run at one φ, the expectation is the gradient of E[L(φ + ε_1, φ + ε_2, …)]: windows
    cut nothing off. The variance grows with the number of windows.

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
        noise = self.sigma * rng.normal(*place.noise.shape).to(place.noise)
        window = walk_pairs(optimizer, objective, place.point, noise, steps, meta_loss)
        summed = place.noise + noise
        gradient = antithetic_gradient(summed, window.gaps, self.sigma)
        return Estimate(gradient, Pairs(window.point, summed), window.losses)
