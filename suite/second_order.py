"""The meta-gradient that keeps ∂∇_t/∂φ, which the paper drops (section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from optimizers.learned.base import Learned
from suite.config import Phase
from suite.loop import Point, advance
from suite.metagradient import loss_weights
from suite.objective import Objective


def second_order_gradient(
    objective: Objective, optimizer: Learned, points: Sequence[Point], phase: Phase
) -> Tensor:
    """dL/dφ [size] of one window, by autograd through optimizer and optimizee.

    θ, state and gradient at the window's start are constants. The window is walked again, with
    everything in one graph, so memory is that of autograd through all of its steps.

    Args:
        objective: that the window was walked on.
        optimizer: a learned optimizer.
        points: θ_0 … θ_T of the window; of the later ones only the last is read.
        phase: says what is summed: its `objective`.
    """
    # A run that diverges in the window stays at its start and adds nothing.
    point = replace(points[0], alive=points[-1].alive)
    with torch.enable_grad():
        phi = optimizer.phi.detach().requires_grad_()
        moving = optimizer.with_weights(phi)
        # Nobody asks for this gradient, but it tells kernels that they are in a graph.
        point = replace(point, grads=point.grads.detach().requires_grad_())
        walked = [point]
        for _ in points[1:]:
            point = advance(objective, moving, replace(point, grads=_off_zero(point.grads)))
            walked.append(point)
        losses = torch.stack([point.loss for point in walked[1:]])
        weights = loss_weights(walked, phase.objective).detach()
        total = torch.where(point.alive, losses * weights, 0.0).sum()
        (gradient,) = torch.autograd.grad(total, phi)
    return gradient


def _off_zero(grads: Tensor) -> Tensor:
    """Gradients, the smallest normal number in the place of 0.

    At 0 Appendix A's logarithm has the derivative 0 · ∞, although its feature is constant there.
    """
    return torch.where(grads == 0, grads + torch.finfo(grads.dtype).tiny, grads)
