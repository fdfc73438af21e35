"""The paper's coordinatewise LSTM optimizer (section 2.1, Appendix A)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.kernels import operators
from l2l.optimizers.kernels.dispatch import kernel_for
from l2l.optimizers.kernels.shape import LSTMShape, Scales, fan_in_bound
from l2l.optimizers.learned.adjoints import Adjoints, leaf, off_zero
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.preprocessing import PREPROCESSINGS, feature_count
from l2l.suite.core.abilities import has


@register_optimizer("lstm")
@dataclass(frozen=True)
class LSTM(Learned):
    """The same small LSTM on every coordinate, each with its own hidden state.

    `preprocessing` is ``log`` (Appendix A), ``scale`` (e^p ∇) or ``none``; the update is the
    network's output times `output_scale`. `output_init` scales the output layer's weights before
    meta-training: small ones let a run start gently.
    """

    coordinatewise: ClassVar[bool] = True
    ignores_params: ClassVar[bool] = True
    fused: ClassVar[bool] = True

    layers: int = 2
    hidden: int = 20
    preprocessing: str = "log"
    p: float = 10.0
    output_scale: float = 0.1
    output_init: float = 1.0

    def __post_init__(self) -> None:
        _ = self.layout  # refuses networks without layers or units, and unknown inputs

    @property
    def layout(self) -> LSTMShape:
        """The architecture of the network."""
        return LSTMShape(self.layers, self.hidden, feature_count(self.preprocessing, self.p))

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training: uniform in ±1/√fan_in, forget biases 1, other biases 0."""
        shape = self.layout
        parts = {}
        for name, size in shape.parameters().items():
            bound = fan_in_bound(shape.fan_in(name))
            parts[name] = (2 * rng.uniform(*size) - 1) * bound
            if name.endswith("bias"):
                parts[name].zero_()
            if name.endswith("bias") and name.startswith("layers"):
                parts[name][self.hidden : 2 * self.hidden] = 1.0
        parts["output.weight"] *= self.output_init
        return shape.join(parts)

    def odd_part(self, vector: Tensor) -> Tensor:
        """φ, or a change of it, projected on the subspace in which m(−∇) = −m(∇).

        The network's units then come in mirrored pairs, so half of them decide.

        Raises:
            ValueError: the number of hidden units is odd.
        """
        indices, signs = self.layout.mirror(PREPROCESSINGS[self.preprocessing][1])
        return (vector + signs.to(vector) * vector[indices.to(vector.device)]) / 2

    def features(self, grads: Tensor) -> Tensor:
        """Gradients [..., n, P] to the network's inputs [..., inputs, n·P]."""
        function, _ = PREPROCESSINGS[self.preprocessing]
        return function(grads.flatten(-2), self.p)

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return self.layout.initial_state(n * spec.size, like=self.phi)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        return self._update(grads, state, None)

    def update_in_place(
        self, grads: Tensor, state: Tensor, params: Params
    ) -> tuple[Tensor, Tensor]:
        return self._update(grads, state, state)

    def _update(self, grads: Tensor, state: Tensor, into: Tensor | None) -> tuple[Tensor, Tensor]:
        """The updates, and the next state, in the memory of `into` if there is any."""
        kernel = kernel_for(self.layout, grads)
        inputs = (self.phi, grads, state)
        tracked = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        if kernel is operators and not tracked and has(self, "fused"):
            given = (grads.flatten(-2), state, self.scales, into)
            update, state = operators.update(self.layout, self.phi, *given)
        else:
            update, state = kernel.step(self.layout, self.phi, self.features(grads), state)
            update = self.output_scale * update
            state = state if into is None else into.copy_(state)
        return update.view_as(grads), state

    def adjoints(
        self,
        grads: Tensor,
        state: Tensor,
        of_update: Tensor,
        of_state: list[Tensor],
        params: Params | None = None,
    ) -> Adjoints:
        """As `Learned.adjoints`; by the fused kernel, where there is one, without going forward."""
        if not has(self, "fused"):
            return super().adjoints(grads, state, of_update, of_state, params)
        with torch.enable_grad():
            own = leaf(off_zero(grads))
            features = self.features(own)
        of_phi, of_features, of_before = kernel_for(self.layout, grads).adjoints(
            self.layout,
            self.phi.detach(),
            features.detach(),
            state,
            self.output_scale * of_update.flatten(),
            of_state[0] if of_state else None,
        )
        (of_grads,) = torch.autograd.grad(features, own, of_features)
        return Adjoints(of_phi, of_grads, [of_before], torch.zeros_like(grads))

    def loss_gradient(
        self,
        grads: Sequence[Tensor],
        state: Tensor,
        weights: Tensor,
        discount: float,
        params: Params | None = None,
    ) -> Tensor:
        """As `Learned.loss_gradient`; one call of the fused kernel, where there is one."""
        if kernel_for(self.layout, state) is operators and has(self, "fused"):
            given = (grads, state, weights, discount)
            return operators.loss_gradient(self.layout, self.phi, *given, self.scales)
        return super().loss_gradient(grads, state, weights, discount, params)

    @property
    def scales(self) -> Scales:
        """What the fused kernel is told of preprocessing and output."""
        factor = math.exp(self.p) if self.preprocessing == "scale" else 1.0
        return Scales(self.p, factor, self.output_scale)

    def window_gradient(
        self, grads: Tensor, state: Tensor, cotangents: Tensor, params: Params | None = None
    ) -> Tensor:
        """As `Learned.window_gradient`, by the fused kernel where there is one."""
        if not has(self, "fused"):
            return super().window_gradient(grads, state, cotangents, params)
        lambdas = self.output_scale * cotangents.flatten(1)
        grads = grads.flatten(1)
        # A coordinate whose λ are all zero adds nothing: on MNIST, pixels that stay black.
        active = lambdas.ne(0).any(0).nonzero().squeeze(1)
        if len(active) < 0.97 * lambdas.shape[1]:
            lambdas, grads, state = (x.index_select(-1, active) for x in (lambdas, grads, state))
        kernel = kernel_for(self.layout, grads)
        features = self.features(grads.unsqueeze(1))
        gradient: Tensor = kernel.gradient(self.layout, self.phi, features, state, lambdas)
        return gradient
