"""Schedule-free AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.suite.core.bounds import Decay, NotNegative


class ScheduleFreeState(NamedTuple):
    """What the method keeps beside its iterate x.

    Args:
        ahead: z − x [n, P].
        square: the mean of squared gradients [n, P].
        weights: the sum of η² [n, 1], in double precision.
        updates: how many were done.
    """

    ahead: Tensor
    square: Tensor
    weights: Tensor
    updates: Tensor


@register_optimizer("schedule-free", tune="lr")
@dataclass(frozen=True)
class ScheduleFree(Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024, algorithm 1).

    ∇ is taken at y = (1 − β₁)z + β₁x; v ← β₂v + (1 − β₂)∇²; z ← z − η(∇ / (√v̂ + ε) + λy), where v̂
    is v corrected for its bias; x ← (1 − c)x + cz, c = η² / Σ η². The iterate is x.
    """

    lr: Tensor | float
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: NotNegative = 1e-8
    weight_decay: NotNegative = 0.0

    def init(self, spec: ParamSpec, n: int) -> ScheduleFreeState:
        zeros = torch.zeros(n, spec.size)
        weights = torch.zeros(n, 1, dtype=torch.float64)
        return ScheduleFreeState(zeros, zeros, weights, torch.zeros(()))

    def lookahead(self, state: ScheduleFreeState) -> Tensor:
        return (1 - self.beta1) * state.ahead

    def update(
        self, grads: Tensor, state: ScheduleFreeState, params: Params
    ) -> tuple[Tensor, ScheduleFreeState]:
        updates = state.updates + 1
        square = state.square.lerp(grads.square(), 1 - self.beta2)
        direction = grads / ((square / (1 - self.beta2**updates)).sqrt() + self.epsilon)
        if self.weight_decay:
            y = params.theta + self.lookahead(state)
            direction = direction + self.weight_decay * y
        # Rates may be so small that float32 does not hold their squares.
        weight = torch.as_tensor(self.lr, dtype=torch.float64) ** 2
        weights = state.weights + weight
        share = (weight / weights.clamp_min(torch.finfo(torch.float64).tiny)).to(grads.dtype)
        ahead = state.ahead - self.lr * direction
        following = ScheduleFreeState((1 - share) * ahead, square, weights, updates)
        return share * ahead, following
