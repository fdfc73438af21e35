"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer


@register_optimizer("sgd", tune="lr")
@dataclass(frozen=True)
class SGD(Optimizer):
    """θ ← θ − η∇, without momentum (Torch7 `optim.sgd`)."""

    lr: Tensor | float

    def init(self, spec: ParamSpec, n: int) -> None:
        return None

    def update(self, grads: Tensor, state: None, params: Params) -> tuple[Tensor, None]:
        return -self.lr * grads, state
