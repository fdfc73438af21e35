"""The exact meta-gradient of one window of truncated BPTT (sections 2 and 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.learned.base import Learned
from optimizers.learned.cotangents import cotangents
from suite.abilities import has
from suite.config import Phase
from suite.loop import Point
from suite.seeds import Rng
from suite.types import Params


def loss_weights(points: Sequence[Point], objective: str) -> Tensor:
    """w_t [T, n] of θ_1 … θ_T, for the mean over runs of what `Phase.objective` names.

    A run that diverged within the window weighs nothing.
    """
    losses = torch.stack([point.loss for point in points[1:]])
    weights = torch.ones_like(losses) if objective == "loss" else 1 / losses.clamp_min(1e-30)
    return weights * points[-1].alive / losses.shape[1]


def window_gradient(optimizer: Learned, points: Sequence[Point], phase: Phase, rng: Rng) -> Tensor:
    """dL/dφ [size] of one window.

    Args:
        optimizer: a learned optimizer.
        points: θ_0 … θ_T of the window.
        phase: says what is summed: its `objective`, `discount` and `sample`.
        rng: draws the sample.
    """
    # A run that diverges in the window adds nothing, even if its gradient was infinite before.
    alive = points[-1].alive.unsqueeze(1)
    grads = [point.grads for point in points]
    if not alive.all():
        grads = [torch.where(alive, each, 0.0) for each in grads]
    weights = loss_weights(points, phase.objective)
    state = points[0].state
    params = None
    if not has(optimizer, "ignores_params"):
        # Where a run diverged, θ may not be finite.
        theta = torch.stack([torch.where(alive, point.theta, 0.0) for point in points[:-1]])
        params = Params(theta, points[0].spec)
    if phase.sample is None or phase.sample >= grads[0].shape[1]:
        return optimizer.loss_gradient(grads, state, weights, phase.discount, params)
    inputs = torch.stack(grads[:-1])
    lambdas = cotangents(torch.stack(grads[1:]), weights.unsqueeze(-1), phase.discount)
    parts = []
    networks = optimizer.networks(inputs, state, lambdas, params)
    for network, own_grads, own_state, own, own_params in networks:
        if phase.sample < own_grads.shape[-1]:
            kept, scale = _importance_sample(own, phase.sample, rng)
            own_state = own_state.index_select(-1, kept)
            own_grads = own_grads.flatten(1).index_select(-1, kept).unsqueeze(1)
            own = (own.flatten(1).index_select(-1, kept) * scale).unsqueeze(1)
            own_params = own_params and own_params.coordinates(kept)
        parts.append(network.window_gradient(own_grads, own_state, own, own_params))
    return torch.cat(parts)


def _importance_sample(lambdas: Tensor, sample: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Coordinates kept with probability in proportion to ‖λ_k‖, and 1/probability for each.

    The meta-gradient is a sum over coordinates, so this estimate of it is unbiased.
    """
    steps, n, _ = lambdas.shape
    size = lambdas.reshape(steps, -1).norm(dim=0)
    probability = torch.zeros_like(size)
    certain = torch.zeros_like(size, dtype=torch.bool)
    # Coordinates that would be drawn more than once are taken for sure, and the rest share what
    # is left; a few rounds settle who is who.
    for _ in range(4):
        left = (sample * n - certain.sum()).clamp_min(0)
        total = size[~certain].sum().clamp_min(torch.finfo(size.dtype).tiny)
        probability = torch.where(certain, 1.0, (size * left / total).clamp_max(1.0))
        certain = probability >= 1
    drawn = rng.uniform(len(size)).to(size.device) < probability
    kept = drawn.nonzero().squeeze(1)
    return kept, 1 / probability[kept]
