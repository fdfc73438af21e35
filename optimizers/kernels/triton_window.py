"""The fused LSTM's gradient of a window on GPUs: matrix products and, between them, two kernels.

What a window's steps give is kept, for pieces of the coordinates. The products are those of
PyTorch, on all coordinates of a piece; a Triton kernel between them does all that is done element
by element. Sums are in a fixed order, without atomics: results do not change from run to run.

A piece has few enough coordinates that the host would launch its kernels more slowly than the GPU
runs them. So their launches are recorded, and made by one call for each piece.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.kernels.triton_cell import back, forth
from l2l.optimizers.learned.cotangents import cotangents
from l2l.suite.core.recorded import Recordings

# What a gradient keeps of a piece of the coordinates, in bytes, unless a row takes more. Pieces of
# twice the size are 3 % faster on an H100, of half the size 18 % slower (docs/gpu.md).
SCRATCH = 2**29
# Rows in it are multiples of so many coordinates.
ROW = 1024
# Pieces of up to so many coordinates are recorded; with more, a GPU is busy longer than the host.
RECORDED = 2**17
# Into so many parts a sum over steps and coordinates is cut, which are summed side by side.
PARTS = 256

_recordings = Recordings(calls=2, most=4)


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
    """As `cpu.backward`."""
    steps, n = d_updates.shape
    row = _row_length(shape, steps, n)
    given = [features, state, d_updates] + ([] if d_last is None else [d_last])
    wanted = [] if d_features is None or d_state is None else [d_features, d_state]
    function = functools.partial(_window, shape, bool(wanted))
    total = torch.zeros_like(weights)
    for first in range(0, n, row):
        own = slice(first, min(first + row, n))
        read = [weights, *(_padded(x[..., own], row) for x in given)]
        d_weights, *others = _call(function, read, triton.cdiv(n, row))
        total += d_weights
        for whole, part in zip(wanted, others, strict=True):
            whole[..., own] = part[..., : own.stop - first]
    return total


def loss_gradient(
    shape: LSTMShape,
    weights: Tensor,
    grads: Sequence[Tensor],
    state: Tensor,
    loss_weights: Tensor,
    discount: float,
    scales: Scales,
) -> Tensor:
    """As `cpu.loss_gradient`."""
    steps, width = len(loss_weights), grads[0].shape[1]
    every = torch.stack(list(grads)).flatten(1)
    # Of all others every λ is 0: on MNIST, pixels that stay black.
    active = every[1:].ne(0).any(0).nonzero().squeeze(1)
    total = torch.zeros_like(weights)
    row = _row_length(shape, steps, len(active))
    function = functools.partial(_of_losses, shape, discount, scales)
    pieces = range(0, len(active), row)
    for first in pieces:
        own = active[first : first + row]
        picked = (every.index_select(1, own), loss_weights.index_select(1, own // width))
        read = [weights, *(_padded(x, row) for x in (*picked, state.index_select(-1, own)))]
        total += _call(function, read, len(pieces))[0]
    return total


def _row_length(shape: LSTMShape, steps: int, n: int) -> int:
    """How many coordinates a piece has: as few pieces as fit, of one length, that take all n.

    A recording serves all windows of this length, so it is rounded up by at most a quarter.
    """
    # Of each layer and step the gates, h twice, and c; and the states before and after.
    kept = 4 * shape.layers * shape.hidden * (7 * steps + 8)
    most = max(ROW, SCRATCH // kept // ROW * ROW)
    pieces = max(1, triton.cdiv(n, most))
    row = max(1, triton.cdiv(n, pieces))
    unit: int = max(ROW, triton.next_power_of_2(row) // 8)
    return min(most, int(triton.cdiv(row, unit)) * unit)


def _padded(tensor: Tensor, row: int) -> Tensor:
    """With zeros up to this length, which add nothing to any sum."""
    return torch.nn.functional.pad(tensor, (0, row - tensor.shape[-1]))


def _call(
    function: functools.partial[list[Tensor]], given: list[Tensor], calls: int
) -> Sequence[Tensor]:
    """What a function gives, of which so many calls are to come; recorded if that is faster."""
    few = given[1].shape[-1] <= RECORDED
    name = (function.func, *function.args)
    recorded = _recordings.find(name, function, given, calls) if few else None
    return (recorded or function)(given)


def _of_losses(
    shape: LSTMShape, discount: float, scales: Scales, given: Sequence[Tensor]
) -> list[Tensor]:
    """`loss_gradient` of some coordinates, all at once.

    Args:
        shape: the architecture.
        discount: γ.
        scales: of gradients and updates.
        given: weights, gradients [T + 1, K], weights of the losses [T, K], and the state.
    """
    weights, grads, loss_weights, state = given
    lambdas = scales.update * cotangents(grads[1:], loss_weights, discount)
    return _window(shape, False, [weights, scales.features(grads[:-1], shape), state, lambdas])


def _window(shape: LSTMShape, of_inputs: bool, given: Sequence[Tensor]) -> list[Tensor]:
    """`backward` of some coordinates, all at once.

    Args:
        shape: the architecture.
        of_inputs: whether the gradients of features and state are wanted.
        given: weights, features, state, and the gradients of updates and, possibly, of the last
            state, all with rows of a length that PARTS divides.

    Returns:
        The gradient of the weights, and, if they are wanted, of features and state.
    """
    weights, features, state, cotangents, *d_last = given
    steps, row = cotangents.shape
    hidden, layers = shape.hidden, range(shape.layers)
    parts = shape.split(weights)
    matrices = [parts[f"layers.{layer}.weight"] for layer in layers]
    biases = [parts[f"layers.{layer}.bias"] for layer in layers]
    # What each layer's matrix multiplies at each step, what is below and its own h, and a row of
    # ones for the bias; gates; c.
    below = [matrix.shape[1] - hidden for matrix in matrices]
    inputs = [weights.new_empty(size + hidden + 1, steps + 1, row) for size in below]
    gates = [weights.new_empty(4 * hidden, steps, row) for _ in layers]
    cells = [weights.new_empty(steps + 1, hidden, row) for _ in layers]
    own = [x[size:-1] for x, size in zip(inputs, below, strict=True)]
    inputs[0][: below[0], :steps] = features.transpose(0, 1)
    for layer in layers:
        inputs[layer][-1] = 1.0
        own[layer][:, 0] = state[layer, 0]
        cells[layer][0] = state[layer, 1]
    for t in range(steps):
        for layer in layers:
            torch.mm(matrices[layer], inputs[layer][:-1, t], out=gates[layer][:, t])
            above = inputs[layer + 1][:, t] if layer + 1 in layers else None
            forth(gates[layer][:, t], biases[layer], cells[layer][t], cells[layer][t + 1],
                  own[layer][:, t + 1], above)  # fmt: skip

    # The gradients, at one step, of what is in `inputs`, and of c.
    d_inputs = [weights.new_zeros(size + hidden, row) for size in below]
    d_cells = [weights.new_zeros(hidden, row) for _ in layers]
    for layer in layers if d_last else ():
        d_inputs[layer][below[layer] :] = d_last[0][layer, 0]
        d_cells[layer].copy_(d_last[0][layer, 1])
    d_features = torch.empty_like(features) if of_inputs else None
    for t in reversed(range(steps)):
        for layer in reversed(layers):
            if layer + 1 in layers:
                from_above, factors = d_inputs[layer + 1][:hidden], None
            else:
                from_above, factors = cotangents[t : t + 1], parts["output.weight"]
            back(gates[layer][:, t], cells[layer][t], cells[layer][t + 1],
                 d_inputs[layer][below[layer] :], from_above, factors, d_cells[layer])  # fmt: skip
            torch.mm(matrices[layer].t(), gates[layer][:, t], out=d_inputs[layer])
        if d_features is not None:
            d_features[t] = d_inputs[0][: below[0]]

    # Where gates were, there are now the gradients of the products that they come from.
    h = own[-1].reshape(hidden, -1)[:, row:]
    found = {
        "output.weight": _product(cotangents.view(1, -1), h),
        "output.bias": cotangents.sum(),
    }
    for layer in layers:
        of_product = gates[layer].view(4 * hidden, -1)
        read = inputs[layer].view(len(inputs[layer]), -1)[:, :-row]
        of_both = _product(of_product, read)
        found[f"layers.{layer}.weight"] = of_both[:, :-1]
        found[f"layers.{layer}.bias"] = of_both[:, -1]
    results = [shape.join(found)]
    if d_features is not None:
        of_h = [x[size:] for x, size in zip(d_inputs, below, strict=True)]
        pairs = [torch.stack(pair) for pair in zip(of_h, d_cells, strict=True)]
        results += [d_features, torch.stack(pairs)]
    return results


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A Bᵀ [M, N] of long rows, in PARTS sums side by side."""
    a, b = (x.view(len(x), PARTS, -1).transpose(0, 1) for x in (a, b))
    return torch.bmm(a, b.transpose(1, 2)).sum(0)
