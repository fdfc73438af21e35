"""The fused LSTM as operators of PyTorch: autograd, `torch.compile` and fake tensors know them.

`l2l::lstm` maps a window's features to its updates and last state, and is differentiable in
everything; its backward is `l2l::lstm_backward`, which recomputes the window. `step`, `gradient`
and `adjoints` are `reference`'s by these operators.

Two more begin with the optimizee's gradients, so that no array of features is made:
`l2l::lstm_update` is one step forward, and `l2l::lstm_loss_gradient` is the meta-gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from l2l.optimizers.kernels import library
from l2l.optimizers.kernels.checks import check_window, expect_into
from l2l.optimizers.kernels.shape import LSTMShape, Scales


def step(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.step`."""
    updates, last = torch.ops.l2l.lstm(
        weights, features.unsqueeze(0), state, shape.layers, shape.hidden
    )
    return updates[0], last


def step_into(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, into: Tensor
) -> Tensor:
    """As `step` without a graph, the next state in the memory of `into`, which may be `state`.

    Returns:
        The update [K], unscaled.
    """
    checked, window = check_window(
        weights, features.unsqueeze(0), state, shape.layers, shape.hidden
    )
    expect_into(into, window[0], window[1], window[2], checked)
    updates: Tensor = library.implementation(features).forward(checked, *window, into)
    return updates[0]


def gradient(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, cotangents: Tensor
) -> Tensor:
    """As `reference.gradient`."""
    window = (weights.detach(), features.detach(), state.detach(), cotangents.detach())
    d_weights: Tensor
    d_weights, _, _ = torch.ops.l2l.lstm_backward(*window, None, False, shape.layers, shape.hidden)
    return d_weights


def adjoints(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    of_update: Tensor,
    of_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.adjoints`."""
    window = (weights.detach(), features.detach().unsqueeze(0), state.detach())
    of_weights, of_features, of_before = torch.ops.l2l.lstm_backward(
        *window, of_update.unsqueeze(0), of_state, True, shape.layers, shape.hidden
    )
    return of_weights, of_features[0], of_before


def update(
    shape: LSTMShape,
    weights: Tensor,
    grads: Tensor,
    state: Tensor,
    scales: Scales,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step forward from gradients, without a graph.

    Args:
        shape: the architecture; with two inputs, gradients become these by Appendix A.
        weights: φ [size].
        grads: [K].
        state: [layers, 2, hidden, K].
        scales: of gradients and updates.
        into: where the next state goes, which may be `state` itself; memory of its own if None.

    Returns:
        The update [K], and the next state.
    """
    into = shape.empty_state(len(grads), like=state) if into is None else into
    return torch.ops.l2l.lstm_update(weights, grads, state, into, *_numbers(shape), *scales), into


def loss_gradient(
    shape: LSTMShape,
    weights: Tensor,
    grads: Sequence[Tensor],
    state: Tensor,
    loss_weights: Tensor,
    discount: float,
    scales: Scales,
) -> Tensor:
    """As `Learned.loss_gradient`, of φ [size].

    Coordinates whose gradients are 0 after the first are left out, for they add nothing.
    """
    weights, state, loss_weights = (x.detach() for x in (weights, state, loss_weights))
    given = (weights, [x.detach() for x in grads], state, loss_weights, discount)
    result: Tensor = torch.ops.l2l.lstm_loss_gradient(*given, *_numbers(shape), *scales)
    return result


def _numbers(shape: LSTMShape) -> tuple[int, int, int]:
    return shape.layers, shape.hidden, shape.inputs
