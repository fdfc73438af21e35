"""small_fc_lopt: a tiny MLP on every parameter, with factored accumulators (Metz et al. 2022)."""

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
from l2l.optimizers.learned.tensor_mlp import MLPLayout, factored, stacked

# The decays that the learned ones start from.
MEANS = (0.9, 0.99, 0.999)
SQUARES = (0.999,)
FACTORS = (0.9, 0.99, 0.999)
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
INPUTS = 2 + 2 * len(MEANS) + 2 * len(SQUARES) + 6 * len(FACTORS) + len(TIMES)


@register_optimizer("small-fc-lopt")
@dataclass(frozen=True)
class SmallFCLopt(Learned):
    """θ ← θ − step · d · exp(magnitude · μ), with d and μ of an MLP of two layers of 4 units.

    Its inputs are ∇, θ, accumulators of both and ratios of them, each divided by its root mean
    square over the tensor, and tanh(t/τ − 1) for times τ from 1 to 10⁵. The accumulators' decays
    are learned: β = 1 − (1 − β_0) e^{10δ}, with δ a part of φ. In all 39 inputs and 197 weights.

    The state is `Accumulators`: 4 numbers a parameter, and 3 for each row and column of a matrix.
    """

    hidden: int = 4
    layers: int = 2
    step: float = 1e-3
    magnitude: float = 1e-3
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_size("layers", self.layers)
        _ = self.layout  # refuses networks that cannot be
        for name in ("step", "magnitude", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name):g}")

    @property
    def layout(self) -> MLPLayout:
        """The architecture of the network, and δ of the decays."""
        sizes = (INPUTS, *[self.hidden] * self.layers, 2)
        decays = {"means": len(MEANS), "squares": len(SQUARES), "factors": len(FACTORS)}
        return MLPLayout(sizes, {f"decays.{name}": number for name, number in decays.items()})

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
        grads = grads.clamp(-LARGEST, LARGEST)
        following = accumulated(
            spec,
            state,
            grads,
            _decays(MEANS, parts["decays.means"]),
            _decays(SQUARES, parts["decays.squares"]).clamp(0, 1),
            _decays(FACTORS, parts["decays.factors"]).clamp(0, 1),
        )
        times = torch.tanh(state.updates / grads.new_tensor(TIMES) - 1).unsqueeze(1)
        updates = {}
        for name, own in by_tensor(params, grads, following):
            inputs = stacked(_inputs(*own), self.epsilon)
            inputs = torch.cat([inputs, times.expand(-1, inputs.shape[1])])
            direction, magnitude = layout.apply(parts, inputs)
            moved = -self.step * direction * (self.magnitude * magnitude).exp()
            updates[name] = moved.view_as(own[0])
        return spec.flatten(updates), following


def _inputs(
    gradient: Tensor, theta: Tensor, means: Tensor, squares: Tensor, factors: Factors
) -> list[Tensor]:
    """Those of one tensor but for time, as `stacked` takes them."""
    root = (squares + 1e-6).rsqrt()
    rows, columns = factors.rows, factors.columns
    return [
        gradient.unsqueeze(0),
        theta.unsqueeze(0),
        means,
        squares,
        means * root,
        root,
        factored(gradient, factors, 1e-9),
        rows,
        columns,
        (rows + 1e-8).rsqrt(),
        (columns + 1e-8).rsqrt(),
        factored(means, factors, 1e-6),
    ]


def _decays(initial: tuple[float, ...], shifts: Tensor) -> Tensor:
    return 1 - (1 - shifts.new_tensor(initial)) * torch.exp(10 * shifts)
