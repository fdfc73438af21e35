"""The fused LSTM's operators as PyTorch's dispatcher, fake tensors and autograd know them.

`operators` says what they are.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from l2l.optimizers.kernels import cpu
from l2l.optimizers.kernels.checks import (
    check_window,
    expect,
    expect_into,
    expect_state,
    of_gradients,
    window_sizes,
)
from l2l.optimizers.kernels.shape import LSTMShape, Scales

_library = torch.library.Library("l2l", "DEF")
_WINDOW = "Tensor weights, Tensor features, Tensor state"
_library.define(f"lstm({_WINDOW}, int layers, int hidden) -> (Tensor updates, Tensor last)")
_library.define(
    f"lstm_backward({_WINDOW}, Tensor d_updates, Tensor? d_last, bool inputs, int layers, "
    "int hidden) -> (Tensor d_weights, Tensor d_features, Tensor d_state)"
)
# The architecture, and `Scales`.
_NETWORK = "int layers, int hidden, int inputs, float p, float gradient, float update"
_library.define(
    "lstm_update(Tensor weights, Tensor grads, Tensor state, Tensor(a!) into, "
    f"{_NETWORK}) -> Tensor"
)
_library.define(
    "lstm_loss_gradient(Tensor weights, Tensor[] grads, Tensor state, Tensor loss_weights, "
    f"float discount, {_NETWORK}) -> Tensor"
)


def implementation(like: Tensor) -> ModuleType:
    """The kernels for the device of a tensor."""
    if like.device.type == "cpu":
        return cpu
    from l2l.optimizers.kernels import triton_lstm

    return triton_lstm


def _lstm(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    shape, window = check_window(weights, features, state, layers, hidden)
    last = shape.empty_state(features.shape[2], like=state)
    return implementation(features).forward(shape, *window, last), last


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
    shape, window = check_window(weights, features, state, layers, hidden)
    steps, _, n = features.shape
    d_updates = expect("cotangents", d_updates, features, steps, n).contiguous()
    if d_last is not None:
        d_last = expect_state("d_last", d_last, features, shape, n)
    d_features = torch.empty_like(window[1]) if inputs else None
    d_state = shape.empty_state(n, like=state) if inputs else None
    d_weights = implementation(features).backward(
        shape, *window, d_updates, d_last, d_features, d_state
    )
    return (
        d_weights,
        features.new_empty(0) if d_features is None else d_features,
        features.new_empty(0) if d_state is None else d_state,
    )


def _lstm_update(
    weights: Tensor,
    grads: Tensor,
    state: Tensor,
    into: Tensor,
    layers: int,
    hidden: int,
    inputs: int,
    *scales: float,
) -> Tensor:
    shape, size = of_gradients(layers, hidden, inputs)
    weights = expect("weights", weights, grads, size).contiguous()
    grads = expect("gradients", grads, grads, grads.numel()).contiguous()
    state = expect_state("state", state, grads, shape, len(grads))
    expect_into(into, weights, grads, state, shape)
    updates: Tensor = implementation(grads).update(
        shape, weights, grads, state, into, Scales(*scales)
    )
    return updates


def _lstm_loss_gradient(
    weights: Tensor,
    grads: list[Tensor],
    state: Tensor,
    loss_weights: Tensor,
    discount: float,
    layers: int,
    hidden: int,
    inputs: int,
    *scales: float,
) -> Tensor:
    shape, size = of_gradients(layers, hidden, inputs)
    if len(grads) < 2:
        raise ValueError(
            f"a window must have at least one step, so two gradients, not {len(grads)}"
        )
    if grads[0].dim() != 2:
        raise ValueError(f"gradients must be [n, P], not {list(grads[0].shape)}")
    runs, width = grads[0].shape
    result: Tensor = implementation(state).loss_gradient(
        shape,
        expect("weights", weights, state, size).contiguous(),
        [expect("gradients", each, state, runs, width).contiguous() for each in grads],
        expect_state("state", state, state, shape, runs * width),
        expect("loss_weights", loss_weights, state, len(grads) - 1, runs).contiguous(),
        discount,
        Scales(*scales),
    )
    return result


for _device in ("CPU", "CUDA"):
    _library.impl("lstm", _lstm, _device)
    _library.impl("lstm_backward", _lstm_backward, _device)
    _library.impl("lstm_update", _lstm_update, _device)
    _library.impl("lstm_loss_gradient", _lstm_loss_gradient, _device)


@torch.library.register_fake("l2l::lstm", lib=_library)
def _(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    steps, inputs, n = window_sizes(features)
    last = LSTMShape(layers, hidden, inputs).empty_state(n, like=state)
    return features.new_empty(steps, n), last


@torch.library.register_fake("l2l::lstm_update", lib=_library)
def _(weights: Tensor, grads: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(grads)


@torch.library.register_fake("l2l::lstm_loss_gradient", lib=_library)
def _(weights: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(weights)


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
    _, features_each, n = window_sizes(features)
    if not inputs:
        return torch.empty_like(weights), features.new_empty(0), state.new_empty(0)
    d_state = LSTMShape(layers, hidden, features_each).empty_state(n, like=state)
    return torch.empty_like(weights), torch.empty_like(features), d_state


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
