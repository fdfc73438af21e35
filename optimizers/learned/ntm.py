"""NTM-BFGS and NTM-L-BFGS: an LSTM+GAC that reads and writes a shared memory (Appendix D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.layout import check_size
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.controller import Controller, gradient_features
from l2l.optimizers.learned.memory import DenseMemory, HistoryMemory
from l2l.optimizers.preprocessing import feature_count


class NTMState(NamedTuple):
    """What goes from step to step.

    Args:
        controller: its LSTMs' h and c, see `Controller`.
        read: i_t [reads, n, P], what the read heads got at the step before; 0 at first.
        memory: M_t.
    """

    controller: Tensor
    read: Tensor
    memory: Any


@dataclass(frozen=True)
class NTM(Learned):
    """The step that both kinds of memory share.

    (∇_t, i_t) ↦ (g_t, r_t, a_t, b_t) on each coordinate by an LSTM+GAC; the update is g_t times
    `output_scale`. Then i_{t+1} = M_t r_t, and M_{t+1} = M_t + Σ a_t b_tᵀ / P, over `writes` heads.
    i is given as it is: what it stands for, and so its size, is the controller's own choice.

    `head_init` scales the heads' weights before meta-training: a small one leaves the memory
    nearly alone at first, as three products of outputs make its part of i. The other fields are
    those of ``lstm-gac``.
    """

    ignores_params: ClassVar[bool] = True

    layers: int = 2
    hidden: int = 20
    gacs: int = 2
    reads: int = 1
    writes: int = 3
    preprocessing: str = "log"
    p: float = 10.0
    output_scale: float = 0.1
    output_init: float = 1.0
    head_init: float = 0.3

    def __post_init__(self) -> None:
        for name in ("reads", "writes"):
            check_size(name, getattr(self, name))
        _ = self.layout  # refuses networks that cannot be

    @property
    def layout(self) -> Controller:
        """The controller; its outputs are g, then r, a and b of the heads."""
        inputs = feature_count(self.preprocessing, self.p) + self.reads
        outputs = 1 + self.reads + 2 * self.writes
        return Controller(self.layers, self.hidden, self.gacs, inputs, outputs)

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training, as the coordinatewise LSTM's, but with quiet heads."""
        parts = self.layout.initial_parts(rng)
        parts["output.weight"][:1] *= self.output_init
        parts["output.weight"][1:] *= self.head_init
        return self.layout.join(parts)

    def initial_memory(self, n: int, coordinates: int) -> Any:
        """M_0, the identity."""
        raise NotImplementedError

    def init(self, spec: ParamSpec, n: int) -> NTMState:
        return NTMState(
            self.layout.initial_state(n, spec.size, like=self.phi),
            self.phi.new_zeros(self.reads, n, spec.size),
            self.initial_memory(n, spec.size),
        )

    def update(self, grads: Tensor, state: NTMState, params: Params) -> tuple[Tensor, NTMState]:
        features = gradient_features(grads, self.preprocessing, self.p)
        inputs = torch.cat([features, state.read])
        outputs, controller = self.layout.step(self.phi, inputs, state.controller)
        g, r, a, b = torch.split(outputs, [1, self.reads, self.writes, self.writes])
        memory = state.memory
        following = NTMState(controller, memory.read(r), memory.write(a, b))
        return self.output_scale * g[0], following


@register_optimizer("ntm-bfgs")
@dataclass(frozen=True)
class NTMBFGS(NTM):
    """NTM-BFGS, whose memory is a matrix: P² numbers an instance. The fields are `NTM`'s."""

    def initial_memory(self, n: int, coordinates: int) -> DenseMemory:
        return DenseMemory.initial(n, coordinates, like=self.phi)


@register_optimizer("ntm-l-bfgs")
@dataclass(frozen=True)
class NTMLBFGS(NTM):
    """NTM-L-BFGS, which remembers the writes of the last `history` steps. Other fields: `NTM`'s."""

    history: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.history < 1:
            raise ValueError(f"history must be at least 1, not {self.history}")

    def initial_memory(self, n: int, coordinates: int) -> HistoryMemory:
        return HistoryMemory.initial(self.history, self.writes, n, coordinates, like=self.phi)
