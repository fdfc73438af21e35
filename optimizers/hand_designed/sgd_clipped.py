"""Stochastic gradient descent with gradients clipped by their norm."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from suite import Optimizer, ParamSpec, register_optimizer


@register_optimizer("sgd-clipped", tune="lr")
@dataclass(frozen=True)
class ClippedSGD(Optimizer):
    """θ ← θ − η∇ min(1, c / ‖∇‖) with c = `threshold` and the L2 norm of an instance's gradient.

    Without state.
    """

    lr: Tensor | float
    threshold: float = 10.0

    def init(self, spec: ParamSpec, n: int) -> None:
        return None

    def update(self, grads: Tensor, state: None) -> tuple[Tensor, None]:
        return -self.lr * clip_by_norm(grads, self.threshold), state


def clip_by_norm(grads: Tensor, threshold: float) -> Tensor:
    """Gradients [n, P] with the norm of each row cut to `threshold`."""
    factor: Tensor = (threshold / grads.norm(dim=1, keepdim=True)).clamp_max(1.0)
    return grads * factor
