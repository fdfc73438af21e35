"""The fused C++ kernel as functions of CPU tensors in float32."""

from __future__ import annotations

import ctypes
from contextvars import ContextVar

import torch
from torch import Tensor

from optimizers.kernels.build import lstm_library
from optimizers.kernels.shape import LSTMShape

# Threads of the kernel, whose results do not depend on them; as many as PyTorch has where None.
kernel_threads: ContextVar[int | None] = ContextVar("kernel_threads", default=None)


def _threads() -> ctypes.c_int:
    return ctypes.c_int(kernel_threads.get() or torch.get_num_threads())


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """Updates [T, K] of a window; the state after it goes to `last`, which may be `state`.

    All tensors are contiguous and of the shapes that `operators.check` asks for.
    """
    steps, _, n = features.shape
    updates = torch.empty(steps, n)
    failed = lstm_library(shape.layers, shape.hidden, shape.inputs).lstm_forward(
        *map(_pointer, (weights, features, state, updates, last)),
        ctypes.c_long(n),
        ctypes.c_long(steps),
        _threads(),
    )
    if failed:
        raise MemoryError("the LSTM kernel could not allocate its buffers")
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

    All tensors are contiguous and of the shapes that `operators.check` asks for.
    """
    steps, n = d_updates.shape
    d_weights = torch.empty(shape.size)
    arrays = (weights, features, state, d_updates, d_last, d_weights, d_features, d_state)
    failed = lstm_library(shape.layers, shape.hidden, shape.inputs).lstm_backward(
        *map(_pointer, arrays),
        ctypes.c_long(n),
        ctypes.c_long(steps),
        _threads(),
    )
    if failed:
        raise MemoryError("the LSTM kernel could not allocate its buffers")
    return d_weights
