"""L-BFGS with a given rate instead of a line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.hand_designed.bfgs import scale_of, unit_pair


class LBFGSState(NamedTuple):
    """What L-BFGS knows after some updates.

    Args:
        moves: the last pairs' s [history, n, P], the newest last, divided by ‖s‖; 0 where there
            is none yet.
        changes: their y [history, n, P], divided by ‖s‖ as well.
        scale: γ of the newest pair, `initial` before the first [n].
        grads: the last gradient [n, P].
        move: the last update [n, P].
        largest: the largest norm of a gradient so far [n].
    """

    moves: Tensor
    changes: Tensor
    scale: Tensor
    grads: Tensor
    move: Tensor
    largest: Tensor


@register_optimizer("l-bfgs", tune="lr")
@dataclass(frozen=True)
class LBFGS(Optimizer):
    """θ ← θ − ηH∇ with H∇ from the last `history` pairs (Nocedal and Wright, algorithm 7.4).

    H starts from γI each time, γ = sᵀy / yᵀy of the newest pair (7.20), and from `initial` · I
    before there is one. Pairs with sᵀy ≤ `curvature` · ‖s‖‖y‖, and those of rounding, are not kept.
    Memory and time are linear in P.
    """

    lr: Tensor | float
    history: int = 10
    initial: float = 0.01
    curvature: float = 1e-6

    def __post_init__(self) -> None:
        if self.history < 1:
            raise ValueError(f"history must be at least 1, not {self.history}")

    def init(self, spec: ParamSpec, n: int) -> LBFGSState:
        pairs = torch.zeros(self.history, n, spec.size)
        zeros = torch.zeros(n, spec.size)
        scale = torch.full((n,), self.initial)
        return LBFGSState(pairs, pairs, scale, zeros, zeros, torch.zeros(n))

    def update(self, grads: Tensor, state: LBFGSState, params: Params) -> tuple[Tensor, LBFGSState]:
        largest = torch.maximum(state.largest, grads.norm(dim=1))
        s, y, usable = unit_pair(state.move, grads - state.grads, largest, self.curvature)
        moves, changes = (
            torch.where(usable[:, None], torch.cat([kept[1:], new.unsqueeze(0)]), kept)
            for kept, new in ((state.moves, s), (state.changes, y))
        )
        scale = torch.where(usable, scale_of(s, y), state.scale)
        move = -self.lr * two_loops(grads, moves, changes, scale)
        return move, LBFGSState(moves, changes, scale, grads, move, largest)


def two_loops(grads: Tensor, moves: Tensor, changes: Tensor, scale: Tensor) -> Tensor:
    """H∇ [n, P] by the two-loop recursion; pairs that are 0 change nothing.

    Args:
        grads: ∇ [n, P].
        moves: s [history, n, P], the newest last.
        changes: y [history, n, P].
        scale: γ [n], H_0 = γI.
    """
    products = (moves * changes).sum(-1, keepdim=True)
    rho = torch.where(products > 0, 1 / products, 0.0)
    weights = []
    direction = grads
    for s, y, r in zip(moves.flip(0), changes.flip(0), rho.flip(0), strict=True):
        weight = r * (s * direction).sum(1, keepdim=True)
        direction = direction - weight * y
        weights.append(weight)
    direction = scale[:, None] * direction
    for s, y, r, weight in zip(moves, changes, rho, reversed(weights), strict=True):
        direction = direction + s * (weight - r * (y * direction).sum(1, keepdim=True))
    return direction
