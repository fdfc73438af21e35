"""Nesterov's accelerated gradient, reported at the iterate or at the look-ahead point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.suite.core.bounds import Decay


@register_optimizer("nag", tune="lr")
@dataclass(frozen=True)
class NAG(Optimizer):
    """u ← μu − η∇f(θ + μu), θ ← θ + u (Torch7 `optim.nag`, momentum 0.9).

    The state is the velocity u [n, P]; the gradient is taken at the look-ahead point θ + μu.
    """

    lr: Tensor | float
    momentum: Decay = 0.9

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return torch.zeros(n, spec.size)

    def lookahead(self, state: Tensor) -> Tensor:
        return self.momentum * state

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        velocity = self.momentum * state - self.lr * grads
        return velocity, velocity


@register_optimizer("nag-lookahead", tune="lr")
@dataclass(frozen=True)
class LookaheadNAG(Optimizer):
    """The same method with the look-ahead point θ + μu as its iterate.

    Torch7's `optim.nag` returns the loss there, which is what the paper's figures show
    (docs/calibration.md). The state is the velocity u [n, P].
    """

    lr: Tensor | float
    momentum: Decay = 0.9

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        velocity = self.momentum * state - self.lr * grads
        return velocity + self.momentum * (velocity - state), velocity
