"""What every learned optimizer is: an optimizer with weights φ, and a meta-gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from l2l import Optimizer, Params, Rng
from l2l.optimizers.layout import Layout
from l2l.optimizers.learned.adjoints import Adjoints, adjoints_by_autograd
from l2l.optimizers.learned.cotangents import cotangents

# A meta-gradient is computed piece by piece of the coordinates, because meanwhile each of them
# takes some kilobytes. More pieces, or smaller ones, would not occupy many cores; a GPU is not
# occupied by fewer coordinates than these.
PIECES = 8
PIECE = 12_288
GPU_PIECE = 2**18


@dataclass(frozen=True)
class Learned(Optimizer):
    """A recurrent optimizer m(∇, h; φ). Subclasses are frozen dataclasses.

    They define `layout`, `initial_weights`, and `init` and `update` as differentiable functions
    of `phi`; the meta-gradient follows. `weights` is φ, flat; see `layout`.
    """

    OPTIONAL: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ignores_params": ("update",),
        "fused": ("features", "update", "networks", "window_gradient"),
        "odd_part": ("update",),
    }
    # Whether coordinates never meet, so that some of them can stand for all (`Truncated.sample`).
    coordinatewise: ClassVar[bool] = False
    # Whether `update` makes no use of `params`: then meta-training does not keep the iterates of
    # a window, and what is given the window has no `params`.
    ignores_params: ClassVar[bool] = False
    # Whether updates and meta-gradients may be computed in faster ways: by a kernel, by `networks`.
    fused: ClassVar[bool] = False

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
        """φ, or a change of it, projected on the subspace in which m(−∇) = −m(∇). Optional.

        Raises:
            ValueError: the architecture has no such subspace.
        """
        raise NotImplementedError

    def networks(
        self, grads: Tensor, state: Any, cotangents: Tensor, params: Params | None = None
    ) -> list[tuple[Learned, Tensor, Any, Tensor, Params | None]]:
        """The networks it is made of, each with its part of `window_gradient`'s arguments.

        Their weights, one after the other, are φ.
        """
        return [(self, grads, state, cotangents, params)]

    def window_gradient(
        self, grads: Tensor, state: Any, cotangents: Tensor, params: Params | None = None
    ) -> Tensor:
        """Σ_s (∂ update_s / ∂φ)ᵀ λ_s, gradients and iterates taken as constants (section 2.1).

        Args:
            grads: ∇_s of the window's steps [T, n, P].
            state: before the window.
            cotangents: λ_s [T, n, P].
            params: θ_s [T, n, P]; needed unless `ignores_params`.

        Returns:
            The gradient of φ [size].
        """
        with torch.enable_grad():
            phi = self.phi.detach().requires_grad_()
            moving = self.with_weights(phi)
            total = phi.new_zeros(())
            params = params or Params.unread(grads)
            for step, (gradient, cotangent) in enumerate(zip(grads, cotangents, strict=True)):
                update, state = moving.update(gradient, state, params.at(step))
                total = total + (update * cotangent).sum()
            (result,) = torch.autograd.grad(total, phi)
        return result

    def adjoints(
        self,
        grads: Tensor,
        state: Any,
        of_update: Tensor,
        of_state: list[Tensor],
        params: Params | None = None,
    ) -> Adjoints:
        """Back through one `update`: from the adjoints of what it gives to those of what it takes.

        Args:
            grads: [n, P].
            state: before the update.
            of_update: of the update [n, P].
            of_state: of each real tensor in the next state; none stands for 0.
            params: θ [n, P]; needed unless `ignores_params`.
        """
        return adjoints_by_autograd(self, grads, state, of_update, of_state, params)

    def loss_gradient(
        self,
        grads: Sequence[Tensor],
        state: Any,
        weights: Tensor,
        discount: float,
        params: Params | None = None,
    ) -> Tensor:
        """Σ_t w_t ∂f(θ_t)/∂φ over a window, gradients and iterates as constants (section 2.1).

        Args:
            grads: ∇f(θ_0) … ∇f(θ_T) [n, P].
            state: before the window.
            weights: w_1 … w_T [T, n].
            discount: γ; see `cotangents`.
            params: θ_0 … θ_{T−1} [T, n, P]; needed unless `ignores_params`.

        Returns:
            The gradient of φ [size].
        """
        in_a_row = isinstance(state, Tensor) and state.shape[-1:] == (grads[0].numel(),)
        if self.coordinatewise and in_a_row:
            return self._sum_over_pieces(grads, state, weights, discount, params)
        lambdas = cotangents(torch.stack(list(grads[1:])), weights.unsqueeze(-1), discount)
        networks = self.networks(torch.stack(list(grads[:-1])), state, lambdas, params)
        return torch.cat([network.window_gradient(*given) for network, *given in networks])

    def _sum_over_pieces(
        self,
        grads: Sequence[Tensor],
        state: Tensor,
        weights: Tensor,
        discount: float,
        params: Params | None,
    ) -> Tensor:
        """`loss_gradient`, a piece of the coordinates [..., n·P] after the other."""
        size, width = grads[0].numel(), grads[0].shape[1]
        if grads[0].device.type == "cuda":
            number = math.ceil(size / GPU_PIECE)
        else:
            number = min(PIECES, math.ceil(size / PIECE))
        total = torch.zeros_like(self.phi)
        for piece in range(number):
            first, end = piece * size // number, (piece + 1) * size // number
            own = torch.stack([each.view(1, -1)[:, first:end] for each in grads])
            of_rows = weights[:, torch.arange(first, end, device=weights.device) // width]
            lambdas = cotangents(own[1:], of_rows.unsqueeze(1), discount)
            given = (own[:-1], state[..., first:end], lambdas)
            own_params = params and params.coordinates(slice(first, end))
            total += self.window_gradient(*given, own_params)
        return total
