"""The fused C++ kernel as functions of CPU tensors in float32."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from optimizers.kernels.build import lstm_library
from optimizers.kernels.shape import LSTMShape, Scales

# Threads of the kernel, whose results do not depend on them; as many as PyTorch has where None.
kernel_threads: ContextVar[int | None] = ContextVar("kernel_threads", default=None)
# Whether OpenMP has started threads for the kernel, and whether a fork has left them behind.
_pool_started = False
_pool_lost = False


def _threads() -> ctypes.c_int:
    global _pool_started
    threads = 1 if _pool_lost else kernel_threads.get() or torch.get_num_threads()
    _pool_started |= threads > 1
    return ctypes.c_int(threads)


def _after_fork() -> None:
    """One thread in a forked process, whose OpenMP would wait for ever for its parent's others.

    PyTorch shares the pool, so its own operations would too.
    """
    global _pool_lost
    if _pool_started:
        _pool_lost = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _call(shape: LSTMShape, function: str, *arguments: object) -> None:
    library = lstm_library(shape.layers, shape.hidden, shape.inputs)
    if getattr(library, function)(*arguments, _threads()):
        raise MemoryError("the LSTM kernel could not allocate its buffers")


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """Updates [T, K] of a window; the state after it goes to `last`, which may be `state`.

    All tensors are as `operators` checks them.
    """
    steps, _, n = features.shape
    updates = features.new_empty(steps, n)
    pointers = map(_pointer, (weights, features, state, updates, last))
    rows = (shape.row_length(state), shape.row_length(last))
    _call(shape, "lstm_forward", *pointers, *map(ctypes.c_long, (n, steps, *rows)))
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
    pointers = map(_pointer, (weights, grads, state, updates, last))
    rows = (shape.row_length(state), shape.row_length(last))
    floats = map(ctypes.c_float, scales)
    _call(shape, "lstm_update", *pointers, *floats, *map(ctypes.c_long, (len(grads), *rows)))
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
    _call(shape, "lstm_backward", *map(_pointer, arrays), *longs)
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
        _pointer(weights),
        pointers,
        *map(_pointer, (state, loss_weights, d_weights)),
        *map(ctypes.c_float, (*scales, discount)),
        *map(ctypes.c_long, (runs, width, len(loss_weights), shape.row_length(state))),
    )
    return d_weights
