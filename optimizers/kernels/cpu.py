"""The fused C++ kernel as functions of CPU tensors in float32."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.suite.core.native_build import load_library
from l2l.suite.core.native_calls import pointer, threads
from l2l.suite.core.team import Team

SOURCE = Path(__file__).parent / "cpp" / "lstm.cpp"
TEAM = Team()


def lstm_library(shape: LSTMShape) -> ctypes.CDLL:
    """The kernels for one architecture; see ``cpp/lstm.cpp`` for layouts.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    return load_library(SOURCE, LAYERS=shape.layers, HIDDEN=shape.hidden, INPUTS=shape.inputs)


def _call(shape: LSTMShape, function: str, work: int, *arguments: object) -> None:
    kernel = getattr(lstm_library(shape), function)
    most = threads().value
    if TEAM.run(
        (function, shape), work, most, lambda count: kernel(*arguments, ctypes.c_int(count))
    ):
        raise MemoryError("the LSTM kernel could not allocate its buffers")


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """Updates [T, K] of a window; the state after it goes to `last`, which may be `state`.

    All tensors are as `operators` checks them.
    """
    steps, _, n = features.shape
    updates = features.new_empty(steps, n)
    pointers = map(pointer, (weights, features, state, updates, last))
    rows = (shape.row_length(state), shape.row_length(last))
    _call(shape, "lstm_forward", n * steps, *pointers, *map(ctypes.c_long, (n, steps, *rows)))
    return updates


def update(
    shape: LSTMShape,
    weights: Tensor,
    grads: Tensor,
    state: Tensor,
    last: Tensor,
    scales: Scales,
) -> Tensor:
    """Updates [K] from gradients [K]; the next state goes to `last`, which may be `state`.

    All tensors are as `operators` checks them.
    """
    updates = torch.empty_like(grads)
    pointers = map(pointer, (weights, grads, state, updates, last))
    rows = (shape.row_length(state), shape.row_length(last))
    floats = map(ctypes.c_float, scales)
    longs = map(ctypes.c_long, (len(grads), *rows))
    _call(shape, "lstm_update", len(grads), *pointers, *floats, *longs)
    return updates


def backward(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    d_updates: Tensor,
    d_last: Tensor | None,
    d_features: Tensor | None,
    d_state: Tensor | None,
) -> Tensor:
    """The gradient of φ [size]; those of features and state go where there is a tensor for them.

    All tensors are as `operators` checks them.
    """
    steps, n = d_updates.shape
    d_weights = torch.empty_like(weights)
    arrays = (weights, features, state, d_updates, d_last, d_weights, d_features, d_state)
    rows = (shape.row_length(x) if x is not None else 0 for x in (state, d_last, d_state))
    longs = map(ctypes.c_long, (n, steps, *rows))
    _call(shape, "lstm_backward", n * steps, *map(pointer, arrays), *longs)
    return d_weights


def loss_gradient(
    shape: LSTMShape,
    weights: Tensor,
    grads: Sequence[Tensor],
    state: Tensor,
    loss_weights: Tensor,
    discount: float,
    scales: Scales,
) -> Tensor:
    """The gradient of φ [size], as `operators.loss_gradient`.

    All tensors are as `operators` checks them.
    """
    runs, width = grads[0].shape
    d_weights = torch.empty_like(weights)
    pointers = (ctypes.c_void_p * len(grads))(*(each.data_ptr() for each in grads))
    _call(
        shape,
        "lstm_loss_gradient",
        runs * width * len(loss_weights),
        pointer(weights),
        pointers,
        *map(pointer, (state, loss_weights, d_weights)),
        *map(ctypes.c_float, (*scales, discount)),
        *map(ctypes.c_long, (runs, width, len(loss_weights), shape.row_length(state))),
    )
    return d_weights
