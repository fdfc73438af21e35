"""The meta-gradient that keeps ∂∇_t/∂φ, which the paper drops (section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.learned.base import Learned
from suite.config import Phase
from suite.loop import Point
from suite.metagradient import loss_weights
from suite.objective import Objective
from suite.types import Params


@torch.no_grad()
def second_order_gradient(
    objective: Objective, optimizer: Learned, points: Sequence[Point], phase: Phase
) -> Tensor:
    """dL/dφ [size] of one window.

    θ, state and gradient at the window's start are constants. Going back through the window, a step
    turns the adjoints of the θ and the state after it into those before it, through the optimizer
    and through the optimizee's gradient, which is computed once more and differentiated. A longer
    window takes no more memory than its θ, gradients and states.

    Args:
        objective: that the window was walked on.
        optimizer: a learned optimizer.
        points: θ_0 … θ_T of the window, all but the last with their states.
        phase: says what is summed: its `objective`.
    """
    # A run that diverges in the window stays at its start and adds nothing.
    alive = points[-1].alive.unsqueeze(1)
    grads = [torch.where(alive, point.grads, 0.0) for point in points]
    states = [point.state for point in points[:-1]]
    params = [point.params for point in points[:-1]]
    if not alive.all():
        # Where a run diverged, θ may not be finite.
        params = [Params(torch.where(alive, each.theta, 0.0), each.spec) for each in params]
        # What a diverging run did to its state may not be finite.
        for step, each in enumerate(grads[:-2]):
            states[step + 1] = optimizer.update(each, states[step], params[step])[1]
    terms = torch.stack(grads[1:]) * loss_weights(points, phase.objective).unsqueeze(-1)

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
            product = _hessian_product(objective, theta, points[step].step, adjoints.grads)
            # Where a run stopped, its second derivatives may be infinite.
            of_theta = of_theta + adjoints.theta + torch.where(alive, product, 0.0)
    return gradient


def _hessian_product(objective: Objective, theta: Tensor, step: int, vector: Tensor) -> Tensor:
    """∂²f(θ)/∂θ² times a vector [n, P]."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        grads = objective.value_and_grad(theta, step)[1]
    if not grads.requires_grad:
        return torch.zeros_like(theta)
    (product,) = torch.autograd.grad(grads, theta, vector, materialize_grads=True)
    return product
