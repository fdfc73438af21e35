"""The fused LSTM as operators of PyTorch: autograd, `torch.compile` and fake tensors know them.

`l2l::lstm` maps a window to its updates and last state, and is differentiable in everything; its
backward is `l2l::lstm_backward`, which recomputes the window. `l2l::lstm_into` is `l2l::lstm`
with the last state in given memory. `step` and `gradient` are `reference`'s by these operators.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from optimizers.kernels import cpu
from optimizers.kernels.shape import LSTMShape

_library = torch.library.Library("l2l", "DEF")
_WINDOW = "Tensor weights, Tensor features, Tensor state"
_library.define(f"lstm({_WINDOW}, int layers, int hidden) -> (Tensor updates, Tensor last)")
_library.define(f"lstm_into({_WINDOW}, Tensor(a!) into, int layers, int hidden) -> Tensor")
_library.define(
    f"lstm_backward({_WINDOW}, Tensor d_updates, Tensor? d_last, bool inputs, int layers, "
    "int hidden) -> (Tensor d_weights, Tensor d_features, Tensor d_state)"
)


def step(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `reference.step`."""
    window = (weights, features.unsqueeze(0), state)
    tracked = torch.is_grad_enabled() and any(x.requires_grad for x in window)
    if into is not None and not tracked:
        updates = torch.ops.l2l.lstm_into(*window, into, shape.layers, shape.hidden)
        return updates[0], into
    updates, last = torch.ops.l2l.lstm(*window, shape.layers, shape.hidden)
    return updates[0], last if into is None else into.copy_(last)


def gradient(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, cotangents: Tensor
) -> Tensor:
    """As `reference.gradient`."""
    window = (weights.detach(), features.detach(), state.detach(), cotangents.detach())
    d_weights: Tensor
    d_weights, _, _ = torch.ops.l2l.lstm_backward(*window, None, False, shape.layers, shape.hidden)
    return d_weights


def check(name: str, tensor: Tensor, like: Tensor, *shape: int) -> Tensor:
    """The tensor, contiguous.

    Raises:
        ValueError: it is not float32 of this shape on the device of `like`.
    """
    if tensor.dtype != torch.float32 or tensor.device != like.device or tensor.shape != shape:
        raise ValueError(
            f"{name} must be float32 {list(shape)} on {like.device}, "
            f"not {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
        )
    return tensor.contiguous()


@functools.cache
def _shape_and_size(layers: int, hidden: int, inputs: int) -> tuple[LSTMShape, int]:
    shape = LSTMShape(layers, hidden, inputs)
    return shape, shape.size


def _check_window(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[LSTMShape, tuple[Tensor, Tensor, Tensor]]:
    steps, inputs, n = features.shape
    shape, size = _shape_and_size(layers, hidden, inputs)
    return shape, (
        check("weights", weights, features, size),
        check("features", features, features, steps, inputs, n),
        check("state", state, features, layers, 2, hidden, n),
    )


def _implementation(like: Tensor) -> ModuleType:
    if like.device.type == "cpu":
        return cpu
    from optimizers.kernels import triton_lstm

    return triton_lstm


def _lstm(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    last = torch.empty_like(state, memory_format=torch.contiguous_format)
    return _lstm_into(weights, features, state, last, layers, hidden), last


def _lstm_into(
    weights: Tensor, features: Tensor, state: Tensor, into: Tensor, layers: int, hidden: int
) -> Tensor:
    shape, window = _check_window(weights, features, state, layers, hidden)
    if into.shape != state.shape or into.dtype != state.dtype or not into.is_contiguous():
        raise ValueError(f"into must be contiguous {list(state.shape)}, as the state is")
    updates: Tensor = _implementation(features).forward(shape, *window, into)
    return updates


def _lstm_backward(
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    d_updates: Tensor,
    d_last: Tensor | None,
    inputs: bool,
    layers: int,
    hidden: int,
) -> tuple[Tensor, Tensor, Tensor]:
    shape, window = _check_window(weights, features, state, layers, hidden)
    steps, _, n = features.shape
    d_updates = check("cotangents", d_updates, features, steps, n)
    if d_last is not None:
        d_last = check("d_last", d_last, features, *state.shape)
    d_features, d_state = (torch.empty_like(x) if inputs else None for x in window[1:])
    d_weights = _implementation(features).backward(
        shape, *window, d_updates, d_last, d_features, d_state
    )
    return (
        d_weights,
        features.new_empty(0) if d_features is None else d_features,
        features.new_empty(0) if d_state is None else d_state,
    )


for _device in ("CPU", "CUDA"):
    _library.impl("lstm", _lstm, _device)
    _library.impl("lstm_into", _lstm_into, _device)
    _library.impl("lstm_backward", _lstm_backward, _device)


@torch.library.register_fake("l2l::lstm", lib=_library)
def _(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    updates = features.new_empty(features.shape[0], features.shape[2])
    return updates, torch.empty_like(state, memory_format=torch.contiguous_format)


@torch.library.register_fake("l2l::lstm_into", lib=_library)
def _(
    weights: Tensor, features: Tensor, state: Tensor, into: Tensor, layers: int, hidden: int
) -> Tensor:
    return features.new_empty(features.shape[0], features.shape[2])


@torch.library.register_fake("l2l::lstm_backward", lib=_library)
def _(
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    d_updates: Tensor,
    d_last: Tensor | None,
    inputs: bool,
    layers: int,
    hidden: int,
) -> tuple[Tensor, Tensor, Tensor]:
    d_features, d_state = (x.new_empty(x.shape if inputs else 0) for x in (features, state))
    return torch.empty_like(weights), d_features, d_state


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *window, ctx.layers, ctx.hidden = inputs
    ctx.save_for_backward(*window)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, d_updates: Tensor | None, d_last: Tensor | None) -> tuple[Any, ...]:
    weights, features, state = ctx.saved_tensors
    if d_updates is None:
        d_updates = features.new_zeros(features.shape[0], features.shape[2])
    inputs = any(ctx.needs_input_grad[1:3])
    d_weights, d_features, d_state = torch.ops.l2l.lstm_backward(
        weights, features, state, d_updates, d_last, inputs, ctx.layers, ctx.hidden
    )
    return d_weights, *((d_features, d_state) if inputs else (None, None)), None, None


def _no_second_backward(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "the fused LSTM is differentiated once only: for a second time use float64, which takes "
        "plain PyTorch"
    )


torch.library.register_autograd("l2l::lstm", _backward, setup_context=_setup_context, lib=_library)
torch.library.register_autograd("l2l::lstm_backward", _no_second_backward, lib=_library)
