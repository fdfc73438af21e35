"""LSTM+GAC: the LSTM optimizer with global averaging cells (Appendix D)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.controller import Controller, gradient_features
from l2l.optimizers.preprocessing import feature_count


@register_optimizer("lstm-gac")
@dataclass(frozen=True)
class LSTMGAC(Learned):
    """The LSTM optimizer, in each layer of which `gacs` cells speak for all coordinates.

    The other fields are those of ``lstm``; the state is that of `Controller`.
    """

    ignores_params: ClassVar[bool] = True

    layers: int = 2
    hidden: int = 20
    gacs: int = 2
    preprocessing: str = "log"
    p: float = 10.0
    output_scale: float = 0.1
    output_init: float = 1.0

    def __post_init__(self) -> None:
        _ = self.layout  # refuses networks that cannot be

    @property
    def layout(self) -> Controller:
        """The architecture of the network."""
        inputs = feature_count(self.preprocessing, self.p)
        return Controller(self.layers, self.hidden, self.gacs, inputs, outputs=1)

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training, as the coordinatewise LSTM's."""
        parts = self.layout.initial_parts(rng)
        parts["output.weight"] *= self.output_init
        return self.layout.join(parts)

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return self.layout.initial_state(n, spec.size, like=self.phi)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        features = gradient_features(grads, self.preprocessing, self.p)
        outputs, state = self.layout.step(self.phi, features, state)
        return self.output_scale * outputs[0], state
