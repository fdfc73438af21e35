"""The fused LSTM as operators of PyTorch: autograd, `torch.compile` and fake tensors know them.

`l2l::lstm` maps a window's features to its updates and last state, and is differentiable in
everything; its backward is `l2l::lstm_backward`, which recomputes the window. `step`, `gradient`
and `adjoints` are `reference`'s by these operators.

Two more begin with the optimizee's gradients, so that no array of features is made:
`l2l::lstm_update` is one step forward, and on CPUs `l2l::lstm_loss_gradient` is the meta-gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from l2l.optimizers.kernels import cpu
from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.preprocessing import PREPROCESSINGS

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
    checked, window = _check_window(
        weights, features.unsqueeze(0), state, shape.layers, shape.hidden
    )
    _expect_into(into, window[0], window[1], window[2], checked)
    updates: Tensor = _implementation(features).forward(checked, *window, into)
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
    """As `Learned.loss_gradient`, of φ [size], on a CPU.

    Coordinates whose gradients are 0 after the first are left out, for they add nothing.
    """
    weights, state, loss_weights = (x.detach() for x in (weights, state, loss_weights))
    given = (weights, [x.detach() for x in grads], state, loss_weights, discount)
    result: Tensor = torch.ops.l2l.lstm_loss_gradient(*given, *_numbers(shape), *scales)
    return result


def _numbers(shape: LSTMShape) -> tuple[int, int, int]:
    return shape.layers, shape.hidden, shape.inputs


def _expect(name: str, tensor: Tensor, like: Tensor, *shape: int) -> Tensor:
    """The tensor.

    Raises:
        ValueError: it is not float32 of this shape on the device of `like`.
    """
    if tensor.dtype != torch.float32 or tensor.device != like.device or tensor.shape != shape:
        raise ValueError(
            f"{name} must be float32 {list(shape)} on {like.device}, "
            f"not {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
        )
    return tensor


def _expect_state(name: str, state: Tensor, like: Tensor, shape: LSTMShape, n: int) -> Tensor:
    """The state, or a copy of it with even rows."""
    _expect(name, state, like, shape.layers, 2, shape.hidden, n)
    return state if shape.has_even_rows(state) else state.contiguous()


def _expect_into(
    into: Tensor, weights: Tensor, grads: Tensor, state: Tensor, shape: LSTMShape
) -> None:
    """Checks that what is written is not read afterwards.

    Raises:
        ValueError: rows of `into` are not apart, or it is neither the state nor apart from what is
            read.
    """
    _expect("into", into, state, *state.shape)
    if not shape.has_even_rows(into) or shape.row_length(into) < state.shape[-1]:
        raise ValueError("the rows of into must be contiguous, evenly spaced and apart")
    first, end = _range(into)
    own = into.data_ptr() == state.data_ptr() and shape.row_length(into) == shape.row_length(state)
    reads = {"weights": weights, "gradients": grads} | ({} if own else {"state": state})
    for name, read in reads.items():
        other_first, other_end = _range(read)
        if other_first < end and first < other_end:
            raise ValueError(
                "into must be the state itself, or memory of which no part lies between the first "
                f"and last element of the {name}"
            )


def _range(tensor: Tensor) -> tuple[int, int]:
    """The addresses of a tensor's first element, and after its last."""
    first, size = tensor.data_ptr(), tensor.element_size()
    if tensor.numel() == 0:
        return first, first
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return first, first + size * (1 + sum((n - 1) * stride for n, stride in sizes))


@functools.cache
def _shape_and_size(layers: int, hidden: int, inputs: int) -> tuple[LSTMShape, int]:
    shape = LSTMShape(layers, hidden, inputs)
    return shape, shape.size


def _of_gradients(layers: int, hidden: int, inputs: int) -> tuple[LSTMShape, int]:
    if inputs > 2:
        raise ValueError(f"a gradient becomes one input or two, not {inputs}")
    return _shape_and_size(layers, hidden, inputs)


def _window_sizes(features: Tensor) -> tuple[int, int, int]:
    """T, inputs and K.

    Raises:
        ValueError: there are no such dimensions, or no steps.
    """
    if features.dim() != 3:
        raise ValueError(f"features must be [T, inputs, K], not {list(features.shape)}")
    steps, inputs, n = features.shape
    if steps == 0:
        raise ValueError("a window must have at least one step, but the features have none")
    return steps, inputs, n


def _check_window(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[LSTMShape, tuple[Tensor, Tensor, Tensor]]:
    steps, inputs, n = _window_sizes(features)
    shape, size = _shape_and_size(layers, hidden, inputs)
    return shape, (
        _expect("weights", weights, features, size).contiguous(),
        _expect("features", features, features, steps, inputs, n).contiguous(),
        _expect_state("state", state, features, shape, n),
    )


def _implementation(like: Tensor) -> ModuleType:
    if like.device.type == "cpu":
        return cpu
    from l2l.optimizers.kernels import triton_lstm

    return triton_lstm


def _lstm(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    shape, window = _check_window(weights, features, state, layers, hidden)
    last = shape.empty_state(features.shape[2], like=state)
    return _implementation(features).forward(shape, *window, last), last


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
    d_updates = _expect("cotangents", d_updates, features, steps, n).contiguous()
    if d_last is not None:
        d_last = _expect_state("d_last", d_last, features, shape, n)
    d_features = torch.empty_like(window[1]) if inputs else None
    d_state = shape.empty_state(n, like=state) if inputs else None
    d_weights = _implementation(features).backward(
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
    shape, size = _of_gradients(layers, hidden, inputs)
    weights = _expect("weights", weights, grads, size).contiguous()
    grads = _expect("gradients", grads, grads, grads.numel()).contiguous()
    state = _expect_state("state", state, grads, shape, len(grads))
    _expect_into(into, weights, grads, state, shape)
    own, kernel = Scales(*scales), _implementation(grads)
    if kernel is cpu:
        return cpu.update(shape, weights, grads, state, into, own)
    if inputs == 1:
        features = (own.gradient * grads).unsqueeze(0)
    else:
        features = PREPROCESSINGS["log"][0](grads, own.p)
    updates: Tensor = kernel.forward(shape, weights, features.unsqueeze(0), state, into)
    return own.update * updates[0]


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
    shape, size = _of_gradients(layers, hidden, inputs)
    if len(grads) < 2:
        raise ValueError(
            f"a window must have at least one step, so two gradients, not {len(grads)}"
        )
    if grads[0].dim() != 2:
        raise ValueError(f"gradients must be [n, P], not {list(grads[0].shape)}")
    runs, width = grads[0].shape
    return cpu.loss_gradient(
        shape,
        _expect("weights", weights, state, size).contiguous(),
        [_expect("gradients", each, state, runs, width).contiguous() for each in grads],
        _expect_state("state", state, state, shape, runs * width),
        _expect("loss_weights", loss_weights, state, len(grads) - 1, runs).contiguous(),
        discount,
        Scales(*scales),
    )


for _device in ("CPU", "CUDA"):
    _library.impl("lstm", _lstm, _device)
    _library.impl("lstm_backward", _lstm_backward, _device)
    _library.impl("lstm_update", _lstm_update, _device)
_library.impl("lstm_loss_gradient", _lstm_loss_gradient, "CPU")


@torch.library.register_fake("l2l::lstm", lib=_library)
def _(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[Tensor, Tensor]:
    steps, inputs, n = _window_sizes(features)
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
    _, features_each, n = _window_sizes(features)
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
