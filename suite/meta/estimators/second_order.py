"""The meta-gradient that keeps ∂∇_t/∂φ, which the paper drops (section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.estimator import Estimate, Estimator, MetaLoss
from l2l.suite.core.registry import register_estimator
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import finite
from l2l.suite.core.types import Params
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start
from l2l.suite.meta.meta_loss import counted, loss_weights


@register_estimator("second_order")
@dataclass(frozen=True)
class SecondOrder(Estimator):
    """Truncated BPTT that keeps ∂∇/∂φ, at a multiple of the time and memory."""

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Point, Tensor]:
        point = start(objective, optimizer)
        return point, point.loss

    def gradient(
        self,
        optimizer: Learned,
        objective: Objective,
        place: Any,
        steps: int,
        meta_loss: MetaLoss,
        rng: Rng,
    ) -> Estimate:
        points = walk(objective, optimizer, place, steps, whole=True)
        weights = loss_weights(points, meta_loss)
        gradient = second_order_gradient(optimizer, objective, points, weights)
        return Estimate(gradient, points[-1], [point.loss for point in points[1:]])


@torch.no_grad()
def second_order_gradient(
    optimizer: Learned, objective: Objective, points: Sequence[Point], weights: Tensor
) -> Tensor:
    """Σ_t w_t df(θ_t)/dφ [size] of one window.

    θ, state and gradient at the window's start are constants. Going back through the window, a step
    turns the adjoints of the θ and the state after it into those before it, through the optimizer
    and through the optimizee's gradient, which is computed once more and differentiated. A longer
    window takes no more memory than its θ, gradients and states.

    Args:
        optimizer: a learned optimizer.
        objective: that the window was walked on.
        points: θ_0 … θ_T of the window, all but the last with their states.
        weights: w_t [T, n]; see `loss_weights`.
    """
    # A run that does not count stays at its start and adds nothing.
    alive = counted(points).unsqueeze(1)
    grads = [torch.where(alive, point.grads, 0.0) for point in points]
    states = [point.state for point in points[:-1]]
    params = [point.params for point in points[:-1]]
    if not alive.all():
        # Where a run diverged, θ may not be finite.
        params = [Params(torch.where(alive, each.theta, 0.0), each.spec) for each in params]
        # What a diverging run did to its state may not be finite, in this window or before.
        states[0] = finite(states[0])
        for step, each in enumerate(grads[:-2]):
            states[step + 1] = optimizer.update(each, states[step], params[step])[1]
    terms = torch.stack(grads[1:]) * weights.unsqueeze(-1)

    gradient = torch.zeros_like(optimizer.phi)
    of_theta = torch.zeros_like(terms[-1])
    # Nothing reads the state at the window's end.
    of_state: list[Tensor] = []
    for step in range(len(terms) - 1, -1, -1):
        # The adjoint of the θ that this step leads to.
        of_theta = of_theta + terms[step]
        given = (grads[step], states[step], of_theta, of_state, params[step])
        adjoints = optimizer.adjoints(*given)
        gradient += adjoints.phi
        of_state = adjoints.state
        # The first gradient is none of φ's doing.
        if step > 0:
            theta = torch.where(alive, points[step].theta, points[0].theta)
            product = hessian_product(objective, theta, points[step].step, adjoints.grads)
            # Where a run stopped, its second derivatives may be infinite.
            of_theta = of_theta + adjoints.theta + torch.where(alive, product, 0.0)
    return gradient


def hessian_product(objective: Objective, theta: Tensor, step: int, vector: Tensor) -> Tensor:
    """∂²f(θ)/∂θ² times a vector [n, P]."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        grads = objective.value_and_grad(theta, step)[1]
    if not grads.requires_grad:
        return torch.zeros_like(theta)
    (product,) = torch.autograd.grad(grads, theta, vector, materialize_grads=True)
    return product
