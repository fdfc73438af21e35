"""BFGS by NTM-BFGS's memory and heads, with a controller of formulas (Appendix D, claim D-2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.learned.memory import DenseMemory

# The least mean of s·y that is divided by: float32 ends at 1e−38.
NEGLIGIBLE = 1e-30


class Notes(NamedTuple):
    """What the controller remembers, on each coordinate [n, P], and of the averages [n, 1].

    Args:
        grads: ∇ where it last moved.
        direction: M∇ there.
        move: s, its last move.
        change: y, how that changed the gradient.
        sy: the mean of s·y.
        sg: the mean of s·∇.
    """

    grads: Tensor
    direction: Tensor
    move: Tensor
    change: Tensor
    sy: Tensor
    sg: Tensor


class ByHandState(NamedTuple):
    """As `NTMState`, with `Notes` instead of LSTMs' h and c, and the number of steps done."""

    notes: Notes
    read: Tensor
    memory: DenseMemory
    steps: Tensor


class Outputs(NamedTuple):
    """What the controller puts out: g [n, P], and r, a, b [heads, n, P]."""

    g: Tensor
    r: Tensor
    a: Tensor
    b: Tensor


@register_optimizer("ntm-bfgs-by-hand", tune="lr")
@dataclass(frozen=True)
class NTMBFGSByHand(Optimizer):
    """NTM-BFGS with one read head, three write heads and two averages a step, made to do BFGS.

    The memory, its heads, and what passes from step to step are those of ``ntm-bfgs``. Formulas
    stand for the LSTM: on each coordinate they see ∇, i and their own notes, and of other
    coordinates two means a step, as two global averaging cells give them.

    i comes a step late, so a BFGS iteration takes two steps. One looks: it reads M∇ and does not
    move. The next one works out My = M∇ − (M∇ before), writes BFGS's change of M, and moves by
    −η times the new M∇, which it needs not read. So after 2k − 1 and 2k steps θ is where ``bfgs``
    with ``scaled: false``, ``curvature: 0`` and the same `lr` and `initial` is after k.

    `initial` is a constant by which gradients are multiplied, as M begins as the identity: M∇ is
    then BFGS's H∇ with H_0 = `initial` · I.
    """

    lr: Tensor | float
    initial: float = 0.01

    def init(self, spec: ParamSpec, n: int) -> ByHandState:
        zeros, mean = torch.zeros(n, spec.size), torch.zeros(n, 1)
        notes = Notes(zeros, zeros, zeros, zeros, mean, mean)
        memory = DenseMemory.initial(n, spec.size, like=zeros)
        return ByHandState(notes, zeros.unsqueeze(0), memory, torch.zeros(()))

    def update(
        self, grads: Tensor, state: ByHandState, params: Params
    ) -> tuple[Tensor, ByHandState]:
        gradient, steps, memory = self.initial * grads, int(state.steps), state.memory
        if steps % 2:
            outputs, notes = look(gradient, state.notes)
        else:
            # M is the identity at first, so what the first step would have read is known.
            read = state.read[0] if steps else gradient
            outputs, notes = move(gradient, read, state.notes, self.lr)
        following = ByHandState(
            notes, memory.read(outputs.r), memory.write(outputs.a, outputs.b), state.steps + 1
        )
        return outputs.g, following


def look(grads: Tensor, notes: Notes) -> tuple[Outputs, Notes]:
    """The step after a move: read M∇, and stay."""
    change = grads - notes.grads
    notes = notes._replace(
        change=change, sy=_average(notes.move * change), sg=_average(notes.move * grads)
    )
    none = grads.new_zeros(3, *grads.shape)
    return Outputs(torch.zeros_like(grads), grads.unsqueeze(0), none, none), notes


def move(grads: Tensor, read: Tensor, notes: Notes, lr: Tensor | float) -> tuple[Outputs, Notes]:
    """The step after a look: write BFGS's change of M, and move along the new M∇.

    M + γssᵀ − ρ(My)sᵀ − ρs(My)ᵀ, each over P, with ρ = 1/sᵀy and γ = (sᵀy + yᵀMy)/(sᵀy)², where
    products over coordinates are means. A pair without positive sᵀy, as before the first move, is
    left out.
    """
    s, sy, sg = notes.move, notes.sy, notes.sg
    my = read - notes.direction
    ymy, myg = _average(notes.change * my), _average(my * grads)
    rho = torch.where(sy > NEGLIGIBLE, 1 / sy, 0.0)
    gamma = (1 + ymy * rho) * rho
    direction = read + gamma * sg * s - rho * (sg * my + myg * s)
    a = torch.stack([gamma * s, -rho * my, -rho * s])
    b = torch.stack([s, s, my])
    update = -lr * direction
    notes = notes._replace(grads=grads, direction=direction, move=update)
    return Outputs(update, torch.zeros_like(grads).unsqueeze(0), a, b), notes


def _average(values: Tensor) -> Tensor:
    """A global averaging cell: the mean over an instance's coordinates, [n, P] to [n, 1]."""
    return values.mean(1, keepdim=True)
