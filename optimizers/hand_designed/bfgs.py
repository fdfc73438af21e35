"""BFGS with a given rate in the place of a line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from suite import Optimizer, ParamSpec, register_optimizer


class BFGSState(NamedTuple):
    """What BFGS knows after some updates.

    Args:
        inverse: H, the inverse Hessian's approximation [n, P, P].
        grads: the last gradient [n, P].
        move: the last update s [n, P].
        pairs: how many pairs (s, y) went into H [n].
    """

    inverse: Tensor
    grads: Tensor
    move: Tensor
    pairs: Tensor


@register_optimizer("bfgs", tune="lr")
@dataclass(frozen=True)
class BFGS(Optimizer):
    """θ ← θ − ηH∇, H by Nocedal and Wright's (6.17) from H_0 = `initial` · I.

    With s the last update, y the change of gradient that it made, and ρ = 1 / sᵀy,
    H ← (I − ρsyᵀ) H (I − ρysᵀ) + ρssᵀ. A pair with sᵀy ≤ `curvature` · ‖s‖‖y‖, which an exact line
    search would not leave on a convex function, changes nothing. If `scaled`, H is set to
    (sᵀy / yᵀy) I before the first pair goes into it (6.20).
    """

    lr: Tensor | float
    initial: float = 0.01
    scaled: bool = True
    curvature: float = 1e-6

    def init(self, spec: ParamSpec, n: int) -> BFGSState:
        zeros = torch.zeros(n, spec.size)
        identity = self.initial * torch.eye(spec.size)
        return BFGSState(identity.repeat(n, 1, 1), zeros, zeros, torch.zeros(n))

    def update(self, grads: Tensor, state: BFGSState) -> tuple[Tensor, BFGSState]:
        s, y = unit_pair(state.move, grads - state.grads)
        usable, scale = curvature_of(s, y, self.curvature)
        inverse = state.inverse
        if self.scaled:
            first = usable & (state.pairs == 0)
            identity = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
            inverse = torch.where(_column(first), _column(scale) * identity, inverse)
        inverse = torch.where(_column(usable), bfgs_inverse(inverse, s, y), inverse)
        move = -self.lr * torch.einsum("npq,nq->np", inverse, grads)
        return move, BFGSState(inverse, grads, move, state.pairs + usable)


def bfgs_inverse(inverse: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """H [n, P, P] after a pair s, y [n, P] (Nocedal and Wright 6.17), multiplied out.

    H + (sᵀy + yᵀHy) ssᵀ / (sᵀy)² − (Hysᵀ + s(Hy)ᵀ) / sᵀy. Rows with sᵀy = 0 come out not finite.
    """
    hy = torch.einsum("npq,nq->np", inverse, y)
    sy, yhy = _column((s * y).sum(1)), _column((y * hy).sum(1))
    ss = s.unsqueeze(2) * s.unsqueeze(1)
    mixed = hy.unsqueeze(2) * s.unsqueeze(1)
    return inverse + (sy + yhy) / sy**2 * ss - (mixed + mixed.mT) / sy


def unit_pair(move: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Both of a pair [n, P] divided by ‖move‖, 0 where that is 0.

    H after a pair does not depend on the pair's length, but near a minimum products of short ones
    are below the smallest float.
    """
    length = move.norm(dim=1, keepdim=True)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    return move * inverse, change * inverse


def curvature_of(s: Tensor, y: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Which unit pairs [n, P] have sᵀy > `least` · ‖y‖ [n], and γ = sᵀy / yᵀy, 1 for others [n].

    (6.20) in Nocedal and Wright; γ is about the inverse of the Hessian's size along s.
    """
    sy, yy = (s * y).sum(1), (y * y).sum(1)
    usable = (sy > least * yy.sqrt()) & yy.isfinite()
    return usable, torch.where(usable, sy / yy, 1.0)


def _column(values: Tensor) -> Tensor:
    """[n] to [n, 1, 1]."""
    return values[:, None, None]
