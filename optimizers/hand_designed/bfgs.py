"""BFGS with a given rate instead of a line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer

# A change of gradient is rounding if it is this many of the type's ε of the largest gradient.
ROUNDING = 100.0


class BFGSState(NamedTuple):
    """What BFGS knows after some updates.

    Args:
        inverse: H, the inverse Hessian's approximation [n, P, P].
        grads: the last gradient [n, P].
        move: the last update s [n, P].
        pairs: how many pairs (s, y) went into H [n].
        largest: the largest norm of a gradient so far [n].
    """

    inverse: Tensor
    grads: Tensor
    move: Tensor
    pairs: Tensor
    largest: Tensor


@register_optimizer("bfgs", tune="lr")
@dataclass(frozen=True)
class BFGS(Optimizer):
    """θ ← θ − ηH∇, H by Nocedal and Wright's (6.17) from H_0 = `initial` · I.

    With s the last update, y the change of gradient that it made, and ρ = 1 / sᵀy,
    H ← (I − ρsyᵀ) H (I − ρysᵀ) + ρssᵀ. A pair with sᵀy ≤ `curvature` · ‖s‖‖y‖, which an exact line
    search would not leave on a convex function, changes nothing; nor does one whose y is rounding
    (`unit_pair`). If `scaled`, H is set to (sᵀy / yᵀy) I before the first pair (6.20).
    """

    lr: Tensor | float
    initial: float = 0.01
    scaled: bool = True
    curvature: float = 1e-6

    def init(self, spec: ParamSpec, n: int) -> BFGSState:
        zeros = torch.zeros(n, spec.size)
        identity = self.initial * torch.eye(spec.size)
        none = torch.zeros(n)
        return BFGSState(identity.repeat(n, 1, 1), zeros, zeros, none, none)

    def update(self, grads: Tensor, state: BFGSState, params: Params) -> tuple[Tensor, BFGSState]:
        largest = torch.maximum(state.largest, grads.norm(dim=1))
        s, y, usable = unit_pair(state.move, grads - state.grads, largest, self.curvature)
        inverse = state.inverse
        if self.scaled:
            first = usable & (state.pairs == 0)
            identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
            inverse = torch.where(_column(first), _column(scale_of(s, y)) * identity, inverse)
        inverse = torch.where(_column(usable), bfgs_inverse(inverse, s, y), inverse)
        move = -self.lr * torch.einsum("npq,nq->np", inverse, grads)
        return move, BFGSState(inverse, grads, move, state.pairs + usable, largest)


def bfgs_inverse(inverse: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """H [n, P, P] after a pair s, y [n, P] (Nocedal and Wright 6.17), multiplied out.

    H + (sᵀy + yᵀHy) ssᵀ / (sᵀy)² − (Hysᵀ + s(Hy)ᵀ) / sᵀy. Rows with sᵀy = 0 come out not finite.
    """
    hy = torch.einsum("npq,nq->np", inverse, y)
    sy, yhy = _column((s * y).sum(1)), _column((y * hy).sum(1))
    ss = s.unsqueeze(2) * s.unsqueeze(1)
    mixed = hy.unsqueeze(2) * s.unsqueeze(1)
    return inverse + (sy + yhy) / sy**2 * ss - (mixed + mixed.mT) / sy


def unit_pair(
    move: Tensor, change: Tensor, largest: Tensor, curvature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A pair divided by ‖move‖, and whether it is one to learn from.

    H after a pair does not depend on the pair's length, but near a minimum products of short ones
    are below the smallest float. And differences of gradients are only rounding there: what H
    learned from them, no line search would take back.

    Args:
        move: s [n, P].
        change: y [n, P].
        largest: the largest norm of a gradient so far [n].
        curvature: the least sᵀy / ‖s‖‖y‖.

    Returns:
        s and y, both divided by ‖s‖ (0 where that is 0), and which pairs are usable [n].
    """
    length = move.norm(dim=1, keepdim=True)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    s, y = move * inverse, change * inverse
    exact = change.norm(dim=1) > ROUNDING * torch.finfo(change.dtype).eps * largest
    size = y.norm(dim=1)
    return s, y, exact & ((s * y).sum(1) > curvature * size) & size.isfinite()


def scale_of(s: Tensor, y: Tensor) -> Tensor:
    """γ = sᵀy / yᵀy [n], about the inverse of the Hessian's size along s (6.20)."""
    return (s * y).sum(1) / (y * y).sum(1)


def _column(values: Tensor) -> Tensor:
    """[n] to [n, 1, 1]."""
    return values[:, None, None]
