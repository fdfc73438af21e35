"""What every learned optimizer is: an optimizer with weights φ, and a meta-gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from optimizers.layout import Layout
from suite import Optimizer, Rng


@dataclass(frozen=True)
class Learned(Optimizer):
    """A recurrent optimizer m(∇, h; φ). Subclasses are frozen dataclasses.

    They define `layout`, `initial_weights`, and `init` and `update` as differentiable functions
    of `phi`; the meta-gradient follows. `weights` is φ, flat; see `layout`.
    """

    # Whether coordinates never meet, so that some of them can stand for all (`Phase.sample`).
    coordinatewise: ClassVar[bool] = False

    weights: Tensor | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parts of φ."""
        raise NotImplementedError

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ [size] before meta-training."""
        raise NotImplementedError

    @property
    def phi(self) -> Tensor:
        """φ [size].

        Raises:
            ValueError: there is none yet.
        """
        if self.weights is None:
            raise ValueError(
                "a learned optimizer needs weights: meta-train it, or load a checkpoint"
            )
        return self.weights

    def with_weights(self, weights: Tensor) -> Self:
        """This optimizer with another φ."""
        return replace(self, weights=weights)

    def odd_part(self, vector: Tensor) -> Tensor:
        """φ, or a change of it, projected on the subspace in which m(−∇) = −m(∇).

        Raises:
            ValueError: the architecture has no such subspace.
        """
        raise ValueError(f"{type(self).__name__} has no odd part: leave 'odd' away")

    def networks(
        self, grads: Tensor, state: Any, cotangents: Tensor
    ) -> list[tuple[Learned, Tensor, Any, Tensor]]:
        """The networks it is made of, each with its part of `window_gradient`'s arguments.

        Their weights, one after the other, are φ.
        """
        return [(self, grads, state, cotangents)]

    def window_gradient(self, grads: Tensor, state: Any, cotangents: Tensor) -> Tensor:
        """Σ_s (∂ update_s / ∂φ)ᵀ λ_s, gradients taken as constants (section 2.1).

        Args:
            grads: ∇_s of the window's steps [T, n, P].
            state: before the window.
            cotangents: λ_s [T, n, P].

        Returns:
            The gradient of φ [size].
        """
        with torch.enable_grad():
            phi = self.phi.detach().requires_grad_()
            moving = self.with_weights(phi)
            total = phi.new_zeros(())
            for gradient, cotangent in zip(grads, cotangents, strict=True):
                update, state = moving.update(gradient, state)
                total = total + (update * cotangent).sum()
            (result,) = torch.autograd.grad(total, phi)
        return result
