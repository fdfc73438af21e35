"""RMSprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.suite.core.bounds import Decay, NotNegative


class RMSpropState(NamedTuple):
    """Second moment and momentum buffer, [n, P] each."""

    square: Tensor
    velocity: Tensor


@register_optimizer("rmsprop", tune="lr")
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v ← αv + (1 − α)∇², u ← μu + ∇ / (√v + ε), θ ← θ − ηu.

    Without momentum (μ = 0) it is Torch7's `optim.rmsprop`; the figure's quadratics curve is
    matched by μ = 0.9 (see docs/calibration.md).
    """

    lr: Tensor | float
    alpha: Decay = 0.99
    epsilon: NotNegative = 1e-8
    momentum: Decay = 0.0

    def init(self, spec: ParamSpec, n: int) -> RMSpropState:
        return RMSpropState(torch.zeros(n, spec.size), torch.zeros(n, spec.size))

    def update(
        self, grads: Tensor, state: RMSpropState, params: Params
    ) -> tuple[Tensor, RMSpropState]:
        square = (self.alpha * state.square).addcmul_(grads, grads, value=1 - self.alpha)
        velocity = grads / square.sqrt().add_(self.epsilon)
        if self.momentum:
            velocity = self.momentum * state.velocity + velocity
        return -self.lr * velocity, RMSpropState(square, velocity)
