"""Persistent evolution strategies (Vicol, Metz and Sohl-Dickstein 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l.suite.core.registry import register_estimator
from l2l.suite.meta.estimators.antithetic import Antithetic, Pairs


@register_estimator("pes")
@dataclass(frozen=True)
class PES(Antithetic):
    """ĝ = 1/(2σ²N) Σ ξ (L⁺ − L⁻) over N pairs, ξ the sum of all ε of the run so far.

    Each pair draws ε ~ N(0, σ²I) afresh for every window, and goes on from where its own runs are.
    Over a whole run at one φ, the expectation is the gradient of E[L(φ + ε_1, φ + ε_2, …)]: windows
    cut nothing off. The variance grows with the number of windows.
    """

    def noises(self, place: Pairs, drawn: Tensor) -> tuple[Tensor, Tensor]:
        return drawn, place.noise + drawn
