"""Noise-reuse evolution strategies (Li et al. 2023), and evolution strategies over whole runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l.suite.core.registry import register_estimator
from l2l.suite.meta.estimators.antithetic import Antithetic, Pairs


@register_estimator("nres")
@dataclass(frozen=True)
class NRES(Antithetic):
    """ĝ = 1/(2σ²N) Σ ε (L⁺ − L⁻) over N pairs, each with one ε ~ N(0, σ²I) for the whole run.

    Over a whole run at one φ, the estimates of its windows sum to that of evolution strategies over
    the whole run, which is what there is without `window`: its expectation is the gradient of
    E[L(φ + ε)].
    """

    def noises(self, place: Pairs, drawn: Tensor) -> tuple[Tensor, Tensor]:
        noise = drawn if place.point.step == 0 else place.noise
        return noise, noise
