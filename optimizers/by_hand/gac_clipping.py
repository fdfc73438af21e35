"""Gradient clipping by an LSTM+GAC whose weights are set by hand (Appendix D, claim D-1)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.learned.gac import LSTMGAC

# A bias at which a gate is open, to the rounding of float32; at its negative the gate is shut.
OPEN = 30.0
# The largest inputs of the squaring cells and of the cell that hands the gradient on. At small
# ones tanh is the identity but for a relative x²/3, and rounding grows.
SQUARED, CARRIED = 0.05, 0.02
# Gates of the second layer per e-fold of the squared norm are densest at the threshold, where the
# factor has a kink: steps of about DENSE there, which grow with the distance.
DENSE, LOWEST = 0.4, 0.7


@register_optimizer("gac-clipping", tune="lr")
@dataclass(frozen=True)
class GACClipping(Optimizer):
    """An LSTM+GAC that clips by norm: θ ← θ − η∇ min(1, c / ‖∇‖), nearly, with c = `threshold`.

    η is the network's output scale; its other weights are `clipping_weights`. They hold for norms
    up to `reach` · c, and are made for the number of coordinates, as a mean of squares knows the
    norm only with it. The state is the network's.
    """

    lr: Tensor | float
    threshold: float = 10.0
    reach: float = 30.0
    hidden: int = 32

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"threshold must be above 0, not {self.threshold:g}")
        if self.hidden < 6 or self.reach <= 1:
            raise ValueError(
                f"hidden must be at least 6 and reach above 1, not {self.hidden} and {self.reach}"
            )

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return self.network(spec.size, like=torch.zeros(())).init(spec, n)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        output, state = self.network(grads.shape[1], like=grads).update(grads, state, params)
        return -self.lr * output, state

    def network(self, coordinates: int, like: Tensor) -> LSTMGAC:
        """The network, which puts out the clipped gradient, in the dtype and place of `like`."""
        network = LSTMGAC(hidden=self.hidden, preprocessing="none", output_scale=1.0)
        weights = clipping_weights(network, self.threshold, self.reach, coordinates)
        return network.with_weights(weights.to(like))


@functools.lru_cache(maxsize=32)
def clipping_weights(network: LSTMGAC, threshold: float, reach: float, coordinates: int) -> Tensor:
    """φ [size], float64 on the CPU, of a two-layer LSTM+GAC that puts out ∇ min(1, c / ‖∇‖).

    First layer. σ(εx) tanh(εx) = εx/2 + (εx)²/4 + …, so the two averaging cells, one for ε and one
    for −ε, add up to the mean of (εx)²/2: what is odd in x cancels. One other cell hands δx on.
    Second layer. A cell's output gate is σ(k (1 − u/t)), where u = ‖∇‖²/c² comes from the averages,
    and it lets δx through; the output weighs such cells so that together they are min(1, 1/√u), by
    least squares of the relative error. All forget gates are shut: nothing is remembered.

    Args:
        network: says the number of cells.
        threshold: c.
        reach: norms up to `reach` · c are fitted.
        coordinates: P.
    """
    hidden, gates = network.hidden, network.hidden - network.gacs
    epsilon, delta = SQUARED / (reach * threshold), CARRIED / (reach * threshold)
    layout = network.layout
    parts = layout.split(_zeros(layout.size))
    first, first_bias, second, second_bias = (
        parts[f"layers.{layer}.{kind}"].view(4, hidden, -1)
        for layer in (0, 1)
        for kind in ("weight", "bias")
    )
    for bias in (first_bias, second_bias):
        bias[0] = bias[3] = OPEN
        bias[1] = -OPEN
    carrier, plus, minus = 0, hidden - 2, hidden - 1
    first[2, carrier, 0] = delta
    for cell, sign in ((plus, 1.0), (minus, -1.0)):
        first[[0, 2], cell, 0] = sign * epsilon
        first_bias[0, cell] = 0.0
    # What the averages add up to at the threshold.
    at_threshold = (epsilon * threshold) ** 2 / (2 * coordinates)
    centres, steepness = _gates(gates - 1, reach)
    # The last gate is always open.
    second[3, : gates - 1, [plus, minus]] = -(steepness / centres / at_threshold).unsqueeze(1)
    second_bias[3, : gates - 1, 0] = steepness
    second[2, :gates, carrier] = 1.0
    parts["output.weight"][0, :gates] = _fitted(centres, steepness, reach) / delta
    return layout.join(parts)


def _gates(count: int, reach: float) -> tuple[Tensor, Tensor]:
    """Centres t and steepness k of gates σ(k (1 − u/t)), up to u = reach²."""
    low, high = (math.asinh(math.log(u) / DENSE) for u in (LOWEST, reach**2))
    places = _evenly(low, high, count)
    distance = DENSE * places.cosh() * (high - low) / (count - 1)
    return (DENSE * places.sinh()).exp(), 1 / distance


def _fitted(centres: Tensor, steepness: Tensor, reach: float) -> Tensor:
    """Weights of the gates, and of one that is always open, for min(1, 1/√u) in 0 < √u < reach."""
    norms = torch.cat([_evenly(0, 2, 1500), _evenly(0.7, math.log(reach), 2500).exp()])
    wanted = 1 / norms.clamp_min(1.0)
    open_gates = (steepness * (1 - norms.square().unsqueeze(1) / centres)).sigmoid()
    columns = torch.cat([open_gates, torch.ones_like(open_gates[:, :1])], dim=1)
    relative = columns / wanted.unsqueeze(1)
    # A little damping keeps the weights from growing to cancel one another.
    damping = 1e-6 * len(norms) ** 0.5 * _zeros(columns.shape[1]).add(1).diag()
    rows = torch.cat([relative, damping])
    target = torch.cat([torch.ones_like(norms), damping.new_zeros(len(damping))])
    solution: Tensor = torch.linalg.lstsq(rows, target.unsqueeze(1), driver="gelsd").solution
    return solution.squeeze(1)


def _evenly(first: float, last: float, count: int) -> Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64, device="cpu")


def _zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64, device="cpu")
