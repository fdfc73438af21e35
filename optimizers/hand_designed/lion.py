"""Lion, with weight decay of its own; docs/extending.md shows it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer


@register_optimizer("lion", tune="lr")
@dataclass(frozen=True)
class Lion(Optimizer):
    """θ ← θ − η (sgn(β₁m + (1 − β₁)∇) + λθ), m ← β₂m + (1 − β₂)∇ (Chen et al. 2023, Lion).

    The state is m [n, P].
    """

    lr: Tensor | float
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        direction = state.lerp(grads, 1 - self.beta1).sign()
        update = -self.lr * (direction + self.weight_decay * params.theta)
        return update, state.lerp(grads, 1 - self.beta2)
