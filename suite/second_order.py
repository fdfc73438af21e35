"""The meta-gradient that keeps ∂∇_t/∂φ, which the paper drops (section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from optimizers.learned.base import Learned
from suite.config import Phase
from suite.loop import Point
from suite.metagradient import loss_weights
from suite.objective import Objective


@torch.no_grad()
def second_order_gradient(
    objective: Objective, optimizer: Learned, points: Sequence[Point], phase: Phase
) -> Tensor:
    """dL/dφ [size] of one window.

    θ, state and gradient at the window's start are constants. Going back through the window, the
    graph of one step is built, used and freed; what stays are the adjoints of the θ and the state
    before it. So every gradient is computed once more and differentiated, but a longer window
    takes no more memory than its θ, gradients and states.

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
    if not alive.all():
        # What a diverging run did to its state may not be finite.
        for step, each in enumerate(grads[:-2]):
            states[step + 1] = optimizer.update(each, states[step])[1]
    terms = torch.stack(grads[1:]) * loss_weights(points, phase.objective).unsqueeze(-1)

    phi = optimizer.phi.detach().requires_grad_()
    moving = optimizer.with_weights(phi)
    gradient = torch.zeros_like(phi)
    of_theta = torch.zeros_like(terms[-1])
    # Nothing reads the state at the window's end.
    of_state: list[Tensor] = []
    for step in range(len(terms) - 1, -1, -1):
        # The adjoint of the θ that this step leads to.
        of_theta = of_theta + terms[step]
        with torch.enable_grad():
            theta = torch.where(alive, points[step].theta, points[0].theta).requires_grad_()
            before = tree_map(_leaf, states[step])
            # The first gradient is none of φ's doing.
            own = objective.value_and_grad(theta, points[step].step)[1] if step else _leaf(grads[0])
            update, after = moving.update(_off_zero(own), before)
        leads = [(update, of_theta), *zip(_tracked(after), of_state, strict=False)]
        out, adjoints = zip(*[each for each in leads if each[0].requires_grad], strict=True)
        by_phi, by_theta, *of_state = torch.autograd.grad(
            out, [phi, theta, *_tracked(before)], adjoints, materialize_grads=True
        )
        gradient += by_phi
        of_theta = of_theta + by_theta
    return gradient


def _leaf(value: Any) -> Any:
    """A tensor of real numbers as a leaf of the graph; all else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


def _tracked(state: Any) -> list[Tensor]:
    """What of a state is differentiated."""
    leaves = tree_leaves(state)
    return [each for each in leaves if isinstance(each, Tensor) and each.is_floating_point()]


def _off_zero(grads: Tensor) -> Tensor:
    """Gradients, the smallest normal number in the place of 0.

    At 0 Appendix A's logarithm has the derivative 0 · ∞, although its feature is constant there.
    """
    return torch.where(grads == 0, grads + torch.finfo(grads.dtype).tiny, grads)
