"""Muon, with ADAM for what is no matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.hand_designed.matrices import is_matrix, join, split
from l2l.suite.core.bounds import Decay, NotNegative

# The polynomial of Newton and Schulz's iteration (Jordan et al. 2024), and how often it is applied.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class MuonState(NamedTuple):
    """Means of gradients [n, P], of their squares but of matrices [n, P'], and the updates done."""

    mean: Tensor
    square: Tensor
    updates: Tensor


@register_optimizer("muon", tune="lr")
@dataclass(frozen=True)
class Muon(Optimizer):
    """Steps along orthogonalised means of gradients (Jordan et al. 2024, Muon).

    For a matrix [r, c]: M ← μM + (1 − μ)∇, θ ← θ − 0.2 √max(r, c) η O, with O the orthogonal
    factor of (1 − μ)∇ + μM, about; all its singular values are near 1. The factor before it makes
    steps as long as ADAM's (Liu et al. 2025, section 2.2), so one rate suits both: what is no
    matrix is moved by ADAM.
    """

    coordinatewise = False

    lr: Tensor | float
    momentum: Decay = 0.95
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: NotNegative = 1e-8

    def init(self, spec: ParamSpec, n: int) -> MuonState:
        others = sum(
            shape.numel() for name, shape in spec.shapes.items() if not is_matrix(spec, name)
        )
        return MuonState(torch.zeros(n, spec.size), torch.zeros(n, others), torch.zeros(()))

    def update(self, grads: Tensor, state: MuonState, params: Params) -> tuple[Tensor, MuonState]:
        spec, updates = params.spec, state.updates + 1
        means, squares, parts = split(spec, state.mean), [grads[:, :0]], {}
        first = 0
        for name, grad in split(spec, grads).items():
            if is_matrix(spec, name):
                mean = means[name].lerp(grad, 1 - self.momentum)
                length = 0.2 * max(grad.shape[1:]) ** 0.5
                parts[name] = length * orthogonalised(grad.lerp(mean, self.momentum))
            else:
                last = first + grad.shape[1]
                mean = means[name].lerp(grad, 1 - self.beta1)
                square = state.square[:, first:last].lerp(grad.square(), 1 - self.beta2)
                size = (square / (1 - self.beta2**updates)).sqrt() + self.epsilon
                parts[name] = mean / (1 - self.beta1**updates) / size
                squares.append(square)
                first = last
            means[name] = mean
        following = MuonState(join(spec, means), torch.cat(squares, 1), updates)
        return -self.lr * join(spec, parts), following


def orthogonalised(matrices: Tensor) -> Tensor:
    """The orthogonal factors UVᵀ of matrices UΣVᵀ [n, r, c], with Σ near 1 in place of 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
