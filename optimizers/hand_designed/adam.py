"""ADAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.suite.core.bounds import Decay, NotNegative


class AdamState(NamedTuple):
    """First and second moments [n, P], and the number of updates done."""

    mean: Tensor
    square: Tensor
    updates: Tensor


@register_optimizer("adam", tune="lr")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma and Ba's ADAM, with ε outside the bias correction (Torch7 `optim.adam`).

    m ← β₁m + (1 − β₁)∇, v ← β₂v + (1 − β₂)∇², θ ← θ − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε).

    The figures' curves are those with `earlier_runs` (docs/calibration.md).
    """

    lr: Tensor | float
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: NotNegative = 1e-8

    def init(self, spec: ParamSpec, n: int) -> AdamState:
        return AdamState(torch.zeros(n, spec.size), torch.zeros(n, spec.size), torch.zeros(()))

    def update(self, grads: Tensor, state: AdamState, params: Params) -> tuple[Tensor, AdamState]:
        mean = state.mean.lerp(grads, 1 - self.beta1)
        square = (self.beta2 * state.square).addcmul_(grads, grads, value=1 - self.beta2)
        updates = state.updates + 1
        correction = (1 - self.beta2**updates).sqrt() / (1 - self.beta1**updates)
        update = mean / square.sqrt().add_(self.epsilon)
        return update * (-self.lr * correction), AdamState(mean, square, updates)
