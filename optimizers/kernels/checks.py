"""What the kernels ask of their tensors: types, devices, shapes, and memory that may be written."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape


def expect(name: str, tensor: Tensor, like: Tensor, *shape: int) -> Tensor:
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


def expect_state(name: str, state: Tensor, like: Tensor, shape: LSTMShape, n: int) -> Tensor:
    """The state, or a copy of it with even rows."""
    expect(name, state, like, shape.layers, 2, shape.hidden, n)
    return state if shape.has_even_rows(state) else state.contiguous()


def expect_into(
    into: Tensor, weights: Tensor, grads: Tensor, state: Tensor, shape: LSTMShape
) -> None:
    """Checks that what is written is not read afterwards.

    Raises:
        ValueError: rows of `into` are not apart, or it is neither the state nor apart from what is
            read.
    """
    expect("into", into, state, *state.shape)
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


def of_gradients(layers: int, hidden: int, inputs: int) -> tuple[LSTMShape, int]:
    """The shape of a network whose inputs come from gradients, and its number of weights.

    Raises:
        ValueError: there are no such inputs.
    """
    if inputs > 2:
        raise ValueError(f"a gradient becomes one input or two, not {inputs}")
    return _shape_and_size(layers, hidden, inputs)


def window_sizes(features: Tensor) -> tuple[int, int, int]:
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


def check_window(
    weights: Tensor, features: Tensor, state: Tensor, layers: int, hidden: int
) -> tuple[LSTMShape, tuple[Tensor, Tensor, Tensor]]:
    """The architecture, and weights, features and state as the kernels read them.

    Raises:
        ValueError: types, devices or shapes do not fit.
    """
    steps, inputs, n = window_sizes(features)
    shape, size = _shape_and_size(layers, hidden, inputs)
    return shape, (
        expect("weights", weights, features, size).contiguous(),
        expect("features", features, features, steps, inputs, n).contiguous(),
        expect_state("state", state, features, shape, n),
    )
