"""The exact meta-gradient of one window of truncated BPTT (sections 2 and 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from optimizers.learned.base import Learned
from suite.config import Phase
from suite.loop import Point
from suite.seeds import Rng


def cotangents(points: Sequence[Point], weights: Tensor, discount: float = 1.0) -> Tensor:
    """λ_s = Σ_{t>s} γ^{t−s−1} w_t ∇f(θ_t) for the steps s of a window.

    ∂∇/∂φ is taken as 0, so a loss depends on φ only through the updates before it, and every
    gradient that appears here was the optimizer's own input: none is computed again.

    Args:
        points: θ_0 … θ_T of the window, T + 1 of them.
        weights: w_1 … w_T for each of n runs [T, n].
        discount: γ; 1 gives the paper's meta-gradient. See `Phase.discount`.

    Returns:
        λ [T, n, P].
    """
    terms = torch.stack([point.grads for point in points[1:]]).mul_(weights.unsqueeze(-1))
    if discount == 1.0:
        return terms.flip(0).cumsum(0).flip(0)
    for step in range(len(terms) - 2, -1, -1):
        terms[step] += discount * terms[step + 1]
    return terms


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
    if not alive.all():
        points = [replace(p, grads=torch.where(alive, p.grads, 0.0)) for p in points]
    grads = torch.stack([point.grads for point in points[:-1]])
    lambdas = cotangents(points, loss_weights(points, phase.objective), phase.discount)
    parts = []
    for network, own_grads, state, own in optimizer.networks(grads, points[0].state, lambdas):
        if phase.sample is not None and phase.sample < own_grads.shape[-1]:
            kept, scale = _importance_sample(own, phase.sample, rng)
            state = state.index_select(-1, kept)
            own_grads = own_grads.flatten(1).index_select(-1, kept).unsqueeze(1)
            own = (own.flatten(1).index_select(-1, kept) * scale).unsqueeze(1)
        parts.append(network.window_gradient(own_grads, state, own))
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
