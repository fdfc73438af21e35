"""The fused LSTM for GPUs: forward is one Triton kernel, backward matrix products and two kernels.

Forward takes blocks of BLOCK coordinates. Arrays of a block are [HP, BLOCK], the HIDDEN units
padded to HP, a power of two; weights of units beyond HIDDEN are read as 0, so those units stay 0.

Backward keeps what a window's steps give, for pieces of the coordinates. Its products are those of
PyTorch, on all coordinates of a piece; a Triton kernel between them does all that is done element
by element. Sums are in a fixed order, without atomics: results do not change from run to run.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.kernels.triton_cell import back, cell, forth
from l2l.suite.core.recorded import Recordings

# The fastest pair on an H100 (docs/gpu.md).
BLOCK, WARPS = 64, 4
# What backward keeps of a piece of the coordinates, in bytes. Fewer coordinates than these do not
# occupy a GPU.
SCRATCH = 2**30
# Rows in it are multiples of so many coordinates.
ROW = 1024
# Up to so many coordinates it is recorded.
RECORDED = 2**18
# Into so many parts a sum over steps and coordinates is cut, which are summed side by side.
PARTS = 256

_recordings = Recordings(calls=2, most=4)


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """As `cpu.forward`."""
    steps, _, n = features.shape
    updates = features.new_empty(steps, n)
    for x, update in zip(features, updates, strict=True):
        rows = (shape.row_length(state), shape.row_length(last))
        grid = (triton.cdiv(n, BLOCK),)
        _forward[grid](weights, x, state, update, last, n, *rows, **_sizes(shape),
                       num_warps=WARPS)  # fmt: skip
        state = last
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
    """As `cpu.backward`."""
    steps, n = d_updates.shape
    # Of each layer: the gates, h twice, and c.
    kept = 4 * steps * shape.layers * 7 * shape.hidden
    piece = max(ROW, SCRATCH // kept)
    total = torch.zeros_like(weights)
    wanted = [] if d_features is None or d_state is None else [d_features, d_state]
    for first in range(0, n, piece):
        own = slice(first, min(first + piece, n))
        read = [features, state, d_updates] + ([] if d_last is None else [d_last])
        row = _row_length(own.stop - first)
        given = [weights, *(_padded(x[..., own], row) for x in read)]
        name = (shape, bool(wanted))
        function = functools.partial(_window, shape, bool(wanted))
        # Many coordinates keep a GPU busy as they are, and a last piece is of any length.
        few = n <= min(piece, RECORDED)
        recorded = _recordings.find(name, function, given) if few else None
        d_weights, *others = (recorded or function)(given)
        total += d_weights
        for whole, part in zip(wanted, others, strict=True):
            whole[..., own] = part[..., : own.stop - first]
    return total


def _row_length(k: int) -> int:
    """From k up by at most a quarter, or ROW: a recording serves all windows of this length."""
    unit: int = max(ROW, triton.next_power_of_2(k) // 8)
    return int(triton.cdiv(k, unit)) * unit


def _padded(tensor: Tensor, row: int) -> Tensor:
    """With zeros up to this length, which add nothing to any sum."""
    return torch.nn.functional.pad(tensor, (0, row - tensor.shape[-1]))


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
    a, b = (x.unflatten(1, (PARTS, -1)).transpose(0, 1) for x in (a, b))
    return torch.bmm(a, b.transpose(1, 2)).sum(0)


def _sizes(shape: LSTMShape) -> dict[str, int]:
    # A matrix product of Triton has at least 16 rows.
    padded = max(16, triton.next_power_of_2(shape.hidden))
    return {"L": shape.layers, "H": shape.hidden, "F": shape.inputs, "HP": padded, "B": BLOCK}


@triton.jit(do_not_specialize=["n", "state_row", "last_row"])
def _forward(
    weights, features, state, update, last, n, state_row, last_row,
    L: tl.constexpr, H: tl.constexpr, F: tl.constexpr, HP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """One step of one block; `last` may be `state`."""
    n, state_row, last_row = n.to(tl.int64), state_row.to(tl.int64), last_row.to(tl.int64)
    ks = (tl.program_id(0) * B + tl.arange(0, B)).to(tl.int64)
    unit = tl.arange(0, HP)
    mask = (unit < H)[:, None] & (ks < n)[None, :]
    state_at = unit[:, None] * state_row + ks[None, :]
    last_at = unit[:, None] * last_row + ks[None, :]
    w = weights
    below = tl.zeros([HP, B], tl.float32)
    for layer in tl.static_range(L):
        h_row, c_row = 2 * layer * H, (2 * layer + 1) * H
        h = tl.load(state + h_row * state_row + state_at, mask=mask, other=0.0)
        c = tl.load(state + c_row * state_row + state_at, mask=mask, other=0.0)
        h, c = cell(w, features, n, below, h, c, ks, layer, H, F, HP)
        tl.debug_barrier()
        tl.store(last + h_row * last_row + last_at, h, mask=mask)
        tl.store(last + c_row * last_row + last_at, c, mask=mask)
        below = h
        w += 4 * H * ((F if layer == 0 else H) + H + 1)
    output = tl.load(w + unit, mask=unit < H, other=0.0)
    total = tl.sum(output[:, None] * below, 0) + tl.load(w + H)
    tl.store(update + ks, total, mask=ks < n)
