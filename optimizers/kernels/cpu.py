"""The fused C++ kernels as functions of CPU tensors in float32."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from optimizers.kernels.build import lstm_library
from optimizers.kernels.shape import LSTMShape


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _check(name: str, tensor: Tensor, *shape: int) -> Tensor:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.shape != shape:
        raise ValueError(
            f"{name} must be float32 {list(shape)} on the CPU, "
            f"not {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
        )
    return tensor.contiguous()


def step(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `reference.step`, without a graph."""
    n = features.shape[-1]
    weights = _check("weights", weights, shape.size)
    features = _check("features", features, shape.inputs, n)
    state = _check("state", state, shape.layers, 2, shape.hidden, n)
    update = torch.empty(n)
    following = torch.empty_like(state) if into is None else into
    if following.shape != state.shape or not following.is_contiguous():
        raise ValueError(f"into must be contiguous {list(state.shape)}, as the state is")
    failed = lstm_library(shape.layers, shape.hidden, shape.inputs).lstm_forward(
        _pointer(weights),
        _pointer(features),
        _pointer(state),
        _pointer(update),
        _pointer(following),
        ctypes.c_long(n),
        ctypes.c_int(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("the LSTM kernel could not allocate its buffers")
    return update, following


def gradient(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, cotangents: Tensor
) -> Tensor:
    """As `reference.gradient`."""
    steps, n = cotangents.shape
    weights = _check("weights", weights, shape.size)
    features = _check("features", features, steps, shape.inputs, n)
    state = _check("state", state, shape.layers, 2, shape.hidden, n)
    cotangents = _check("cotangents", cotangents, steps, n)
    grad = torch.empty(shape.size)
    failed = lstm_library(shape.layers, shape.hidden, shape.inputs).lstm_backward(
        _pointer(weights),
        _pointer(features),
        _pointer(state),
        _pointer(cotangents),
        _pointer(grad),
        ctypes.c_long(n),
        ctypes.c_long(steps),
        ctypes.c_int(torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("the LSTM kernel could not allocate its buffers")
    return grad
