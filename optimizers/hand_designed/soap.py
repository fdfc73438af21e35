"""SOAP: ADAM in the eigenbasis of a running mean of GGᵀ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.hand_designed.matrices import is_matrix, join, split
from l2l.suite.core.bounds import Decay, NotNegative


class Side(NamedTuple):
    """Of one side of a matrix: the mean of GGᵀ, or of GᵀG, and its eigenvectors [n, d, d]."""

    mean: Tensor
    basis: Tensor


class SoapState(NamedTuple):
    """What SOAP keeps.

    Args:
        mean: of gradients [n, P].
        square: of squared gradients [n, P], a matrix's along its eigenvectors.
        sides: left and right of each matrix; None for one that is too long to be rotated.
        updates: how many were done.
    """

    mean: Tensor
    square: Tensor
    sides: tuple[tuple[Side | None, ...], ...]
    updates: int


@register_optimizer("soap", tune="lr")
@dataclass(frozen=True)
class Soap(Optimizer):
    """ADAM along the eigenvectors Q of L = mean of GGᵀ and R = mean of GᵀG (Vyas et al. 2024).

    A gradient G of a matrix becomes Q_LᵀGQ_R, and ADAM's step is turned back. Every `every` steps Q
    is the orthogonal factor of LQ, of its columns by falling eigenvalue. The first gradient moves
    nothing, as in the authors' code. A side longer than `longest` is not rotated. What is no matrix
    is moved by ADAM.
    """

    coordinatewise = False

    lr: Tensor | float
    beta1: Decay = 0.95
    beta2: Decay = 0.95
    epsilon: NotNegative = 1e-8
    every: int = 10
    longest: int = 256

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every}")

    def init(self, spec: ParamSpec, n: int) -> SoapState:
        sides = tuple(
            tuple(
                Side(torch.zeros(n, d, d), torch.eye(d).repeat(n, 1, 1))
                if d <= self.longest
                else None
                for d in (shape[0], shape[1:].numel())
            )
            for name, shape in spec.shapes.items()
            if is_matrix(spec, name)
        )
        return SoapState(torch.zeros(n, spec.size), torch.zeros(n, spec.size), sides, 0)

    def update(self, grads: Tensor, state: SoapState, params: Params) -> tuple[Tensor, SoapState]:
        spec, count = params.spec, state.updates
        gradients = split(spec, grads)
        matrices = [name for name in gradients if is_matrix(spec, name)]
        sides = dict(zip(matrices, state.sides, strict=True))
        if count == 0:
            first = tuple(self._sides(gradients[name], sides[name], count) for name in matrices)
            return torch.zeros_like(grads), SoapState(state.mean, state.square, first, 1)
        mean = state.mean.lerp(grads, 1 - self.beta1)
        along = split(spec, mean)
        rotated = dict(gradients)
        for name in matrices:
            rotated[name] = _rotated(gradients[name], sides[name])
            along[name] = _rotated(along[name], sides[name])
        square = state.square.lerp(join(spec, rotated).square(), 1 - self.beta2)
        steps = split(spec, join(spec, along) / (square.sqrt() + self.epsilon))
        squares, following = split(spec, square), []
        for name in matrices:
            steps[name] = _rotated(steps[name], sides[name], back=True)
            new = self._sides(gradients[name], sides[name], count)
            if count % self.every == 0:
                new, squares[name] = _turned(new, squares[name])
            following.append(new)
        correction = (1 - self.beta2**count) ** 0.5 / (1 - self.beta1**count)
        kept = SoapState(mean, join(spec, squares), tuple(following), count + 1)
        return -self.lr * correction * join(spec, steps), kept

    def _sides(
        self, gradient: Tensor, sides: tuple[Side | None, ...], count: int
    ) -> tuple[Side | None, ...]:
        """The sides with a gradient [n, r, c] in their means, and at first their eigenvectors."""
        found: list[Side | None] = []
        for side, g in zip(sides, (gradient, gradient.mT), strict=True):
            if side is not None:
                mean = side.mean.lerp(g @ g.mT, 1 - self.beta2)
                basis = _eigenvectors(mean) if count == 0 else side.basis
                side = Side(mean, basis)
            found.append(side)
        return tuple(found)


def _eigenvectors(mean: Tensor) -> Tensor:
    """Those of means [n, d, d] as columns, by falling eigenvalues; any where a mean overflowed."""
    known = torch.where(mean.isfinite().all((1, 2), keepdim=True), mean, 0.0)
    vectors: Tensor = torch.linalg.eigh(known)[1]
    return vectors.flip(-1)


def _rotated(matrix: Tensor, sides: tuple[Side | None, ...], back: bool = False) -> Tensor:
    """Q_LᵀGQ_R of G [n, r, c], or `back`, Q_LGQ_Rᵀ."""
    left, right = sides
    if left is not None:
        matrix = (left.basis if back else left.basis.mT) @ matrix
    if right is not None:
        matrix = matrix @ (right.basis.mT if back else right.basis)
    return matrix


def _turned(
    sides: tuple[Side | None, ...], square: Tensor
) -> tuple[tuple[Side | None, ...], Tensor]:
    """Sides with new bases, by one step of power iteration, and squares in their new order."""
    found: list[Side | None] = []
    for dim, side in enumerate(sides, start=1):
        if side is not None:
            product = side.mean @ side.basis
            order = (side.basis * product).sum(1).argsort(dim=1, descending=True, stable=True)
            columns = product.gather(2, order.unsqueeze(1).expand_as(product))
            index = order.unsqueeze(2 if dim == 1 else 1).expand_as(square)
            square = square.gather(dim, index)
            side = Side(side.mean, torch.linalg.qr(columns)[0])
        found.append(side)
    return tuple(found), square
