"""The paper's coordinatewise LSTM optimizer (section 2.1, Appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from optimizers.kernels.dispatch import kernel_for
from optimizers.kernels.shape import LSTMShape, glorot_bound
from optimizers.learned.preprocessing import PREPROCESSINGS
from suite import Optimizer, ParamSpec, Rng, register_optimizer


@register_optimizer("lstm")
@dataclass(frozen=True)
class LSTM(Optimizer):
    """The same small LSTM on every coordinate, each with its own hidden state.

    `preprocessing` is ``log`` (Appendix A), ``scale`` (e^p ∇) or ``none``; the update is the
    network's output times `output_scale`. `output_init` scales the output layer's weights before
    meta-training: small ones let a run start gently. `weights` is φ, flat; see `LSTMShape`.
    """

    layers: int = 2
    hidden: int = 20
    preprocessing: str = "log"
    p: float = 10.0
    output_scale: float = 0.1
    output_init: float = 1.0
    weights: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.preprocessing not in PREPROCESSINGS:
            known = ", ".join(PREPROCESSINGS)
            raise ValueError(f"preprocessing must be one of {known}, not {self.preprocessing!r}")
        _ = self.shape  # refuses networks without layers or units

    @property
    def shape(self) -> LSTMShape:
        """The architecture of the network."""
        return LSTMShape(self.layers, self.hidden, len(PREPROCESSINGS[self.preprocessing][1]))

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training: uniform in ±1/√fan_in, forget biases 1, other biases 0."""
        shape = self.shape
        parts = {}
        for name, size in shape.parameters().items():
            bound = glorot_bound(shape.fan_in(name))
            parts[name] = (2 * rng.uniform(*size) - 1) * bound
            if name.endswith("bias"):
                parts[name].zero_()
            if name.endswith("bias") and name.startswith("layers"):
                parts[name][self.hidden : 2 * self.hidden] = 1.0
        parts["output.weight"] *= self.output_init
        return shape.join(parts)

    def with_weights(self, weights: Tensor) -> LSTM:
        """This optimizer with another φ."""
        return replace(self, weights=weights)

    def odd_part(self, vector: Tensor) -> Tensor:
        """φ, or a change of it, projected on the subspace in which m(−∇) = −m(∇).

        The network's units then come in mirrored pairs, so half of them decide.

        Raises:
            ValueError: the number of hidden units is odd.
        """
        indices, signs = self.shape.mirror(PREPROCESSINGS[self.preprocessing][1])
        return (vector + signs.to(vector) * vector[indices.to(vector.device)]) / 2

    def _phi(self) -> Tensor:
        if self.weights is None:
            raise ValueError("an LSTM optimizer needs weights: meta-train it, or load a checkpoint")
        return self.weights

    def features(self, grads: Tensor) -> Tensor:
        """Gradients [..., n, P] to the network's inputs [..., inputs, n·P]."""
        function, _ = PREPROCESSINGS[self.preprocessing]
        return function(grads.flatten(-2), self.p)

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return self.shape.initial_state(n * spec.size, like=self._phi())

    def update(
        self, grads: Tensor, state: Tensor, into: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Optimizer.update`; `into` is where the next state goes, `state` itself if need be."""
        kernel = kernel_for(self.shape, grads)
        features = self.features(grads)
        update, state = kernel.step(self.shape, self._phi(), features, state, into)
        return (self.output_scale * update).view_as(grads), state

    def window_gradient(self, grads: Tensor, state: Tensor, cotangents: Tensor) -> Tensor:
        """Σ_s (∂ update_s / ∂φ)ᵀ λ_s, gradients taken as constants.

        Args:
            grads: ∇_s of the window's steps [T, n, P].
            state: before the window.
            cotangents: λ_s [T, n, P].

        Returns:
            The gradient of φ [size].
        """
        lambdas = self.output_scale * cotangents.flatten(1)
        grads = grads.flatten(1)
        # A coordinate whose λ are all zero adds nothing: on MNIST, pixels that stay black.
        active = lambdas.ne(0).any(0).nonzero().squeeze(1)
        if len(active) < 0.97 * lambdas.shape[1]:
            lambdas, grads, state = (x.index_select(-1, active) for x in (lambdas, grads, state))
        kernel = kernel_for(self.shape, grads)
        features = self.features(grads.unsqueeze(1))
        gradient: Tensor = kernel.gradient(self.shape, self._phi(), features, state, lambdas)
        return gradient
