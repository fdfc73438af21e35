"""The coordinatewise LSTM in plain PyTorch: any device, any dtype. It is the definition."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape


def step(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of m (section 3), differentiable in everything.

    Args:
        shape: the architecture.
        weights: φ [size].
        features: [inputs, K].
        state: [layers, 2, hidden, K].

    Returns:
        The update [K], unscaled, and the next state.
    """
    parts = shape.split(weights)
    below = features
    layers = []
    for layer in range(shape.layers):
        below, c = cell(parts, layer, below, state[layer])
        layers.append(torch.stack([below, c]))
    update = parts["output.weight"] @ below + parts["output.bias"]
    return update, torch.stack(layers)


def cell(
    parts: Mapping[str, Tensor], layer: int, below: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The next h and c [hidden, K] of a layer, from what is below it [inputs, K] and its state."""
    h, c = state
    gates = torch.addmm(
        parts[f"layers.{layer}.bias"].unsqueeze(1),
        parts[f"layers.{layer}.weight"],
        torch.cat([below, h]),
    )
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gradient(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, cotangents: Tensor
) -> Tensor:
    """Σ_s (∂ update_s / ∂φ)ᵀ λ_s over a window, the features taken as constants.

    Args:
        shape: the architecture.
        weights: φ [size].
        features: [T, inputs, K].
        state: before the window [layers, 2, hidden, K].
        cotangents: λ [T, K].

    Returns:
        The gradient of φ [size].
    """
    with torch.enable_grad():
        phi = weights.detach().requires_grad_()
        total = phi.new_zeros(())
        for x, cotangent in zip(features, cotangents, strict=True):
            update, state = step(shape, phi, x, state)
            total = total + (update * cotangent).sum()
        (grad,) = torch.autograd.grad(total, phi)
    return grad


def adjoints(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    of_update: Tensor,
    of_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through one `step`: from the adjoints of its results to those of its arguments.

    Args:
        shape: the architecture.
        weights: φ [size].
        features: [inputs, K].
        state: before the step [layers, 2, hidden, K].
        of_update: [K].
        of_state: of the next state [layers, 2, hidden, K]; None stands for 0.

    Returns:
        Those of weights, features and state.
    """
    with torch.enable_grad():
        phi, x, before = (each.detach().requires_grad_() for each in (weights, features, state))
        update, after = step(shape, phi, x, before)
        leads = [(update, of_update)] + ([] if of_state is None else [(after, of_state)])
        out, adjoints = zip(*leads, strict=True)
    of_weights, of_features, of_before = torch.autograd.grad(out, (phi, x, before), adjoints)
    return of_weights, of_features, of_before
