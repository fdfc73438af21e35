"""The exact meta-gradient of one window of truncated BPTT (sections 2 and 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.cotangents import cotangents
from l2l.suite.core.abilities import has
from l2l.suite.core.bounds import Above, AtMost, Count
from l2l.suite.core.estimator import Estimate, Estimator, MetaLoss
from l2l.suite.core.registry import register_estimator
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import a, finite, kind_of
from l2l.suite.core.types import Params, ParamSpec
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start
from l2l.suite.meta.meta_loss import counted, loss_weights


@register_estimator("truncated")
@dataclass(frozen=True)
class Truncated(Estimator):
    """Truncated BPTT with ∂∇/∂φ taken as 0, as in the paper (section 2.1).

    Args:
        discount: γ, by which an update's effect on the loss is taken to fade with each step. Taking
            ∂∇/∂φ as 0 leaves out that later updates compensate for a change in earlier ones.
        sample: how many coordinates of a run (of each of its networks, if there are several), drawn
            in proportion to their λ, stand for all in the meta-gradient (unbiased); all of them if
            not given.
    """

    discount: Annotated[float, Above(0), AtMost(1)] = 1.0
    sample: Count | None = None

    def check(self, optimizer: Learned, spec: ParamSpec) -> None:
        if self.sample is not None:
            _check_sample(optimizer, spec)

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
        points = walk(objective, optimizer, place, steps)
        weights = loss_weights(points, meta_loss)
        gradient = window_gradient(optimizer, points, weights, rng, self.discount, self.sample)
        return Estimate(gradient, points[-1], [point.loss for point in points[1:]])


def window_gradient(
    optimizer: Learned,
    points: Sequence[Point],
    weights: Tensor,
    rng: Rng,
    discount: float = 1.0,
    sample: int | None = None,
) -> Tensor:
    """Σ_t w_t ∂f(θ_t)/∂φ [size] of one window.

    Args:
        optimizer: a learned optimizer.
        points: θ_0 … θ_T of the window.
        weights: w_t [T, n]; see `loss_weights`.
        rng: draws the sample.
        discount: see `Truncated`.
        sample: see `Truncated`.
    """
    alive = counted(points).unsqueeze(1)
    grads = [point.grads for point in points]
    state = points[0].state
    if not alive.all():
        grads = [torch.where(alive, each, 0.0) for each in grads]
        # Nor does one that diverged before, whatever that did to its state.
        state = finite(state)
    params = None
    if not has(optimizer, "ignores_params"):
        # Where a run diverged, θ may not be finite.
        theta = torch.stack([torch.where(alive, point.theta, 0.0) for point in points[:-1]])
        params = Params(theta, points[0].spec)
    if sample is None or sample >= grads[0].shape[1]:
        return optimizer.loss_gradient(grads, state, weights, discount, params)
    inputs = torch.stack(grads[:-1])
    lambdas = cotangents(torch.stack(grads[1:]), weights.unsqueeze(-1), discount)
    parts = []
    networks = optimizer.networks(inputs, state, lambdas, params)
    for network, own_grads, own_state, own, own_params in networks:
        if sample < own_grads.shape[-1]:
            kept, scale = _importance_sample(own, sample, rng)
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


def _check_sample(optimizer: Learned, spec: ParamSpec) -> None:
    """That some coordinates can stand for others; ValueError if not."""
    if not optimizer.coordinatewise:
        kind = type(optimizer).__name__
        raise ValueError(f"the coordinates of {kind} are not independent: omit 'sample'")
    # Two runs, for coordinates are those of all runs in a row.
    grads = torch.zeros(1, 2, spec.size)
    made = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    for network, own_grads, state, *_ in made.networks(grads, made.init(spec, 2), grads):
        coordinates = own_grads[0].numel()
        if not isinstance(state, Tensor) or state.shape[-1:] != (coordinates,):
            found = kind_of(state) if isinstance(state, Tensor) else a(state)
            raise ValueError(
                f"the state of {type(network).__name__} is {found}, but must be one tensor whose "
                "last dimension is n·P, the coordinates of all runs: omit 'sample'"
            )
