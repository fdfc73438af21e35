"""Celo2-base: a tiny MLP that gives directions, with a rate from outside (Celo2, 2026)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.layout import check_size
from l2l.optimizers.learned.accumulators import (
    LARGEST,
    Accumulators,
    Factors,
    accumulated,
    by_tensor,
    empty_accumulators,
)
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.tensor_mlp import MLPLayout, factored, rsqrt, stacked

MEANS = (0.9, 0.99, 0.999)
SQUARES = (0.95,)
FACTORS = (0.9, 0.99, 0.999)
CLIP = 0.1
LARGEST_PUBLISHED = 1e3
INPUTS = 4 + 2 * len(MEANS) + 2 * len(SQUARES) + 6 * len(FACTORS)
# Only the first is used.
OUTPUTS = 3


@register_optimizer("celo2-base")
@dataclass(frozen=True)
class Celo2Base(Learned):
    """θ ← θ − η (n(d) + λθ), with d of a small MLP, n(d) of root mean square 1.

    Its inputs are ∇, θ, accumulators of both and ratios of them, each divided by its root mean
    square over the tensor: 30 inputs, two layers of 8 units, 347 weights. Neither the loss nor time
    is among them, and `lr` and its schedule stay outside, as for a hand-designed optimizer. Means
    are over whole tensors, which for matrices are the published last two dimensions. Celo2 without
    "base" makes d orthogonal and leaves vectors to AdamW.

    The state is `Accumulators`: 4 numbers a parameter, and 3 for each row and column of a matrix.
    """

    lr: float = 0.01
    weight_decay: float = 0.0
    hidden: int = 8
    layers: int = 2
    epsilon: float = 1e-9
    as_published: bool = False

    def __post_init__(self) -> None:
        check_size("layers", self.layers)
        _ = self.layout  # refuses networks that cannot be
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, not {self.epsilon:g}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, not {self.weight_decay:g}")

    @property
    def layout(self) -> MLPLayout:
        """The architecture of the network."""
        return MLPLayout((INPUTS, *[self.hidden] * self.layers, OUTPUTS), {})

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training."""
        return self.layout.initial_weights(rng)

    def init(self, spec: ParamSpec, n: int) -> Accumulators:
        numbers = (len(MEANS), len(SQUARES), len(FACTORS))
        return empty_accumulators(spec, n, *numbers, like=self.phi)

    def update(
        self, grads: Tensor, state: Accumulators, params: Params
    ) -> tuple[Tensor, Accumulators]:
        layout, spec = self.layout, params.spec
        parts = layout.split(self.phi)
        largest = LARGEST_PUBLISHED if self.as_published else LARGEST
        grads = grads.clamp(-largest, largest)
        decays = (grads.new_tensor(each) for each in (MEANS, SQUARES, FACTORS))
        following = accumulated(spec, state, grads, *decays)
        directions = {}
        for name, own in by_tensor(params, grads, following):
            inputs = stacked(_inputs(*own, self.as_published), self.epsilon)
            direction = layout.apply(parts, inputs)[0].view_as(own[0])
            directions[name] = stacked([direction.unsqueeze(0)], self.epsilon).view_as(direction)
        return -self.lr * (spec.flatten(directions) + self.weight_decay * params.theta), following


def _inputs(
    gradient: Tensor,
    theta: Tensor,
    means: Tensor,
    squares: Tensor,
    factors: Factors,
    as_published: bool,
) -> list[Tensor]:
    """Those of one tensor, as `stacked` takes them."""
    root = (squares + 1e-8).rsqrt()
    return [
        gradient.unsqueeze(0),
        gradient.clamp(-CLIP, CLIP).unsqueeze(0),
        theta.unsqueeze(0),
        means,
        squares,
        means * root,
        root,
        factored(gradient, factors, 1e-9),
        gradient * root,
        *_of_factors(means, factors, as_published),
    ]


def _of_factors(means: Tensor, factors: Factors, as_published: bool) -> list[Tensor]:
    rows, columns = factors.rows, factors.columns
    if not as_published:
        roots = [rsqrt(rows), rsqrt(columns)]
    elif factors.factored:
        roots = [(rows + 1e-8).rsqrt(), (columns + 1e-8).rsqrt()]
    else:
        return [torch.zeros_like(means)] * 5
    return [rows, columns, *roots, factored(means, factors, 1e-6)]
